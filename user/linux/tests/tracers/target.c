// What strace and gdb look at.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int total;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void hit(int n)
{
    pthread_mutex_lock(&lock);
    total += n;
    pthread_mutex_unlock(&lock);
}

static void *work(void *unused)
{
    for (int i = 0; i < 10; i++) hit(1);
    return unused;
}

static void handler(int number) { total += number; }

int main(int count, char **words)
{
    if (count > 1) return 9;
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        pthread_create(&thread, 0, work, 0);
        pthread_join(thread, 0);
    }
    pid_t pid = fork();
    if (pid == 0) {
        execl(words[0], words[0], "child", (char *)0);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    char text[40];
    snprintf(text, sizeof text, "total %d status %x\n", total, status);
    write(1, text, strlen(text));
    raise(SIGTERM);
    return 0;
}
