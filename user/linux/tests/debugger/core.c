// Ends by a signal while another thread waits in the kernel.
#include <pthread.h>
#include <unistd.h>

volatile double value = 1.5;
int ready[2];

__attribute__((noinline)) void waits(void) {
    char c;
    write(ready[1], "x", 1);
    for (;;) pause();
}

static void *work(void *unused) {
    waits();
    return 0;
}

__attribute__((noinline)) void fails(int number) {
    char c;
    read(ready[0], &c, 1);
    *(volatile int *)(long)number = 7;
}

int main(void) {
    pthread_t thread;
    pipe(ready);
    pthread_create(&thread, 0, work, 0);
    volatile double local = value * 2;
    fails(64);
    return local;
}
