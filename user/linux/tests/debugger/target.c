// What a debugger is tried on: one part for each argument.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

volatile int counter;
volatile double real = 1.5;

__attribute__((noinline)) int twice(int x) { __atomic_fetch_add(&counter, x, 5); return 2 * x; }

__attribute__((noinline)) void marker(void) { __asm__ volatile(""); }

static void on_signal(int signal) { counter += signal; marker(); }

static void *work(void *argument) {
    twice(*(int *)argument);
    return 0;
}

static void wait_for_input(void) {
    char c;
    printf("ready\n");
    printf("got %d\n", (int)read(0, &c, 1));
}

int main(int count, char **words) {
    setvbuf(stdout, 0, _IONBF, 0);
    const char *part = count > 1 ? words[1] : "";
    if (!strcmp(part, "calls")) {
        real = twice(21);
        marker();
        printf("%d %g\n", counter, real);
    } else if (!strcmp(part, "threads")) {
        pthread_t threads[3];
        int numbers[3] = {1, 10, 100};
        for (int i = 0; i < 3; i++) pthread_create(threads + i, 0, work, numbers + i);
        for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
        printf("%d\n", counter);
    } else if (!strcmp(part, "signals")) {
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
        raise(SIGUSR2);
        printf("%d\n", counter);
    } else if (!strcmp(part, "abort")) {
        abort();
    } else if (!strcmp(part, "fork")) {
        int status = 0;
        for (int i = 0; i < 2; i++) {
            pid_t child = i ? vfork() : fork();
            if (child == 0) _exit(i ? 7 : twice(4));
            waitpid(child, &status, 0);
            printf("child %d\n", WEXITSTATUS(status));
        }
        twice(1);
    } else if (!strcmp(part, "read")) {
        wait_for_input();
    } else if (!strcmp(part, "fault")) {
        *(volatile int *)16 = 1;
    }
    return 3;
}
