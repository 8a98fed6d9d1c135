// Signals between system calls: restarts, masks, timers, queues, waiting for them.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int got, value, depth, deepest;

static int ends[2], writes;

static void count(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    got++;
    value = info->si_value.sival_int;
    if (writes && got == 3) write(ends[1], "x", 1);
}

static void nest(int signal) {
    if (++depth > deepest) deepest = depth;
    if (signal == SIGUSR1) raise(SIGUSR2);
    depth--;
}

static void with(int signal, int flags) {
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, 0);
    got = 0;
}

// Again and again: a signal may come before the call that it is to interrupt.
static void alarm_often(int usec) {
    struct itimerval often = {{0, usec}, {0, usec}};
    setitimer(ITIMER_REAL, &often, 0);
}

int main(void) {
    char byte;
    if (pipe(ends)) return 1;
    with(SIGALRM, 0);
    alarm_often(20000);
    int done = read(ends[0], &byte, 1);
    printf("read without SA_RESTART: %d %s, %d\n", done, strerror(errno), got > 0);
    alarm_often(0);

    with(SIGALRM, SA_RESTART);
    writes = 1;
    alarm_often(20000);
    done = read(ends[0], &byte, 1);
    printf("read with SA_RESTART: %d %c, %d\n", done, byte, got >= 3);
    alarm_often(0);
    writes = 0;

    with(SIGALRM, SA_RESTART);
    alarm_often(20000);
    struct pollfd poller = {ends[0], POLLIN, 0};
    done = poll(&poller, 1, -1);
    printf("poll: %d %s, %d\n", done, strerror(errno), got > 0);
    alarm_often(0);

    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    with(SIGRTMIN, 0);
    for (int i = 0; i < 5; i++) sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    siginfo_t info;
    done = sigwaitinfo(&set, &info);
    printf("waited: %d, value %d\n", done == SIGRTMIN, info.si_value.sival_int);
    int fd = signalfd(-1, &set, 0);
    struct signalfd_siginfo record;
    done = read(fd, &record, sizeof record);
    printf("signalfd: %d, value %d\n", done == sizeof record, record.ssi_int);
    got = 0;
    sigprocmask(SIG_SETMASK, &old, 0);
    printf("queued: %d, last value %d\n", got, value);

    with(SIGUSR1, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR1);
    printf("held back: %d\n", got);
    sigset_t none;
    sigemptyset(&none);
    done = sigsuspend(&none);
    sigprocmask(0, 0, &none);
    printf("suspended: %d %s, %d, still held back: %d\n", done, strerror(errno), got, sigismember(&none, SIGUSR1));
    raise(SIGUSR1);
    struct timespec now = {0, 0};
    done = ppoll(0, 0, &now, &old);
    printf("ppoll: %d, %d\n", done, got);
    sigprocmask(SIG_SETMASK, &old, 0);

    signal(SIGUSR1, nest);
    signal(SIGUSR2, nest);
    raise(SIGUSR1);
    printf("nested: %d\n", deepest);

    with(SIGPROF, SA_RESTART);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_PROF, &often, 0);
    double sum = 0;
    for (long i = 1; got < 50; i++) sum += 1.0 / (double)i * (double)i;
    often = (struct itimerval){0};
    setitimer(ITIMER_PROF, &often, 0);
    printf("busy: %d\n", sum > 0);

    struct sigaction once = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    sigaction(SIGTERM, &once, 0);
    raise(SIGTERM);
    int status;
    pid_t child = fork();
    if (child == 0) {
        raise(SIGTERM);
        return 0;
    }
    waitpid(child, &status, 0);
    printf("once: ended by %s\n", strsignal(WTERMSIG(status)));
    return 0;
}
