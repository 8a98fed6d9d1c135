// Threads: locks, joins, robust locks, thread storage, signals to a thread, forks of a thread.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long locked_count;
static atomic_long count;
static _Thread_local long own;
static atomic_int got;

static void *work(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        locked_count++;
        pthread_mutex_unlock(&lock);
        count++;
        own++;
    }
    return (void *)(own + (long)argument);
}

static void *die_with(void *mutex) {
    pthread_mutex_lock(mutex);
    return 0;
}

static void on_usr1(int signal) {
    (void)signal;
    got = 1;
}

static void *wait_for_signal(void *argument) {
    while (!got) pause();
    pthread_mutex_lock(&lock);
    // Signals go on until this, for one may come just before the pause.
    atomic_fetch_or((atomic_int *)argument, 1);
    pthread_cond_wait(&cond, &lock);
    atomic_fetch_or((atomic_int *)argument, 2);
    pthread_mutex_unlock(&lock);
    return 0;
}

int main(void) {
    pthread_t threads[8];
    for (long i = 0; i < 8; i++) pthread_create(&threads[i], 0, work, (void *)i);
    for (long i = 0; i < 8; i++) {
        void *result;
        pthread_join(threads[i], &result);
        if ((long)result != 20000 + i) puts("wrong result");
    }
    printf("%ld %ld\n", locked_count, count);

    pthread_mutex_t robust;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    pthread_create(&threads[0], 0, die_with, &robust);
    pthread_join(threads[0], 0);
    printf("robust: %s\n", strerror(pthread_mutex_lock(&robust)));

    struct sigaction action = {.sa_handler = on_usr1};
    sigaction(SIGUSR1, &action, 0);
    atomic_int done = 0;
    pthread_create(&threads[0], 0, wait_for_signal, &done);
    while (!done) {
        pthread_kill(threads[0], SIGUSR1);
        sched_yield();
    }
    // The lock is free only once the thread waits for the condition.
    pthread_mutex_lock(&lock);
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
    pthread_join(threads[0], 0);
    printf("woken: %d\n", done);

    pid_t child = fork();
    if (child == 0) {
        pthread_create(&threads[0], 0, work, 0);
        pthread_join(threads[0], 0);
        _exit(locked_count == 180000 ? 9 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child: %d\n", WEXITSTATUS(status));
    fflush(stdout);
    // The others go on when the first thread ends.
    pthread_create(&threads[0], 0, work, 0);
    pthread_exit(0);
}
