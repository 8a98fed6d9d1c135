// A program that does at once what is hard to do at once: threads that lock, wait and signal each
// other, memory that comes, goes and changes its rights, code that is written again and again, forks.
// Each thread checks its own results; `stress SECONDS` says `ok`, or what went wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORKERS 4

static atomic_int stop, failed;
static atomic_long signals, rounds[8];

static void wrong(const char *what) {
    atomic_store(&failed, 1);
    atomic_store(&stop, 1);
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
}

static unsigned draw(unsigned *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

// ---- locks ----

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static long sum, shares[WORKERS];
static int turn;

static void *worker(void *argument) {
    long number = (long)argument;
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 500; i++) {
            pthread_mutex_lock(&lock);
            sum++;
            pthread_mutex_unlock(&lock);
        }
        shares[number] += 500;
        // Everybody in turn, as long as nobody stops.
        pthread_mutex_lock(&lock);
        while (turn != number && !atomic_load(&stop)) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec++;
            pthread_cond_timedwait(&turned, &lock, &until);
        }
        turn = (number + 1) % WORKERS;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&rounds[0], 1);
    }
    return 0;
}

// ---- memory ----

static __thread sigjmp_buf *guard;
static __thread volatile char *expected;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (!guard || (char *)info->si_addr != expected) {
        static const char text[] = "a fault at the wrong place\n";
        (void)!write(2, text, sizeof text - 1);
        _exit(3);
    }
    siglongjmp(*guard, signal);
}

static int faults(volatile char *at, int writes) {
    sigjmp_buf here;
    expected = at;
    guard = &here;
    int found = sigsetjmp(here, 1);
    if (!found) {
        if (writes)
            *at = 1;
        else
            (void)*at;
    }
    guard = 0;
    return found;
}

static void *mapper(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    while (!atomic_load(&stop)) {
        unsigned long pages = 1 + draw(&seed) % 16, at = draw(&seed) % pages;
        char *area = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) {
            wrong("mmap");
            break;
        }
        memset(area, (int)pages, pages * PAGE);
        char *page = area + at * PAGE;
        if (mprotect(page, PAGE, PROT_READ) || page[5] != (char)pages || !faults(page + 5, 1)) wrong("read only");
        if (mprotect(page, PAGE, PROT_NONE) || !faults(page + 7, 0)) wrong("no rights");
        if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) || faults(page + 9, 1)) wrong("all rights");
        if (page[9] != 1 || page[10] != (char)pages) wrong("content");
        if (draw(&seed) % 4 == 0) {
            char *grown = mremap(area, pages * PAGE, 2 * pages * PAGE, MREMAP_MAYMOVE);
            if (grown == MAP_FAILED || grown[pages * PAGE - 1] != (char)pages || grown[pages * PAGE] != 0) wrong("mremap");
            area = grown;
            pages *= 2;
        }
        // Another thread may map there at once: whether it faults then is not asked.
        if (munmap(area, pages * PAGE)) wrong("munmap");
        atomic_fetch_add(&rounds[1], 1);
    }
    return 0;
}

// ---- code ----

static void write_code(unsigned char *at, unsigned value) {
#if defined(__riscv)
    unsigned code[] = {0x00000537u | (value & 0xfffff) << 12, 0x00c5551bu, 0x00008067u}; // lui; srliw; ret
    memcpy(at, code, sizeof code);
#else
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3}; // mov eax; ret
    value &= 0xfffff;
    memcpy(code + 1, &value, 4);
    memcpy(at, code, sizeof code);
#endif
    __builtin___clear_cache((char *)at, (char *)at + 16);
}

static unsigned run_code(unsigned char *at) {
    unsigned (*function)(void);
    memcpy(&function, &at, sizeof at);
    return function();
}

static void *writer(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    int turns = (long)argument % 2;
    unsigned char *code = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) {
        wrong("code");
        return 0;
    }
    while (!atomic_load(&stop)) {
        unsigned value = draw(&seed), at = 64 * (draw(&seed) % 64);
        if (turns) mprotect(code, 2 * PAGE, PROT_READ | PROT_WRITE);
        write_code(code + at, value);
        if (turns) mprotect(code, 2 * PAGE, PROT_READ | PROT_EXEC);
        for (int i = 0; i < 20; i++)
            if (run_code(code + at) != (value & 0xfffff)) wrong("old code");
        atomic_fetch_add(&rounds[2], 1);
    }
    return 0;
}

// ---- processes ----

static void *forker(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    while (!atomic_load(&stop)) {
        int ends[2], code = (int)(draw(&seed) % 100);
        if (pipe(ends)) {
            wrong("pipe");
            break;
        }
        pid_t child = fork();
        if (child == 0) {
            char *area = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            write_code((unsigned char *)area, (unsigned)code);
            unsigned found = run_code((unsigned char *)area);
            (void)!write(ends[1], &found, sizeof found);
            if (code < 10) raise(SIGKILL);
            _exit(code);
        }
        unsigned found = 1000;
        int status = 0;
        close(ends[1]);
        ssize_t count;
        while ((count = read(ends[0], &found, sizeof found)) < 0 && errno == EINTR) {}
        close(ends[0]);
        if (child < 0) {
            wrong("fork");
            break;
        }
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        int good = code < 10 ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : WIFEXITED(status) && WEXITSTATUS(status) == code;
        if (count != sizeof found || found != (unsigned)code || !good) wrong("child");
        atomic_fetch_add(&rounds[3], 1);
    }
    return 0;
}

// ---- signals ----

static void on_signal(int signal, siginfo_t *info, void *context) {
    int kept = errno;
    (void)info;
    (void)context;
    atomic_fetch_add(&signals, 1);
    // One inside of the other, now and then.
    if (signal == SIGUSR1 && atomic_load(&signals) % 16 == 0) pthread_kill(pthread_self(), SIGUSR2);
    errno = kept;
}

static pthread_t threads[16];
static int count;

static void *signaller(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    while (!atomic_load(&stop)) {
        pthread_kill(threads[draw(&seed) % (unsigned)count], draw(&seed) % 2 ? SIGUSR1 : SIGUSR2);
        struct timespec pause = {0, 200000};
        nanosleep(&pause, 0);
        atomic_fetch_add(&rounds[4], 1);
    }
    return 0;
}

static void *on_other_stack(void *argument) {
    void *(*body)(void *) = *(void *(**)(void *))argument;
    long number = ((long *)argument)[1];
    free(argument);
    stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&stack, 0);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, 0);
    return body((void *)number);
}

static void start(void *(*body)(void *), long number) {
    void **argument = malloc(2 * sizeof *argument);
    argument[0] = (void *)body;
    ((long *)argument)[1] = number;
    if (pthread_create(&threads[count], 0, on_other_stack, argument)) exit(4);
    count++;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    sigaction(SIGALRM, &action, 0);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, 0);
    long seconds = argc > 1 ? atol(argv[1]) : 10;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (long i = 0; i < WORKERS; i++) start(worker, i);
    for (long i = 0; i < 2; i++) start(mapper, i + 1);
    for (long i = 0; i < 2; i++) start(writer, i);
    start(forker, 1);
    pthread_t sender;
    pthread_create(&sender, 0, signaller, (void *)7);
    pthread_sigmask(SIG_SETMASK, &before, 0);
    struct itimerval often = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &often, 0);

    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, 0);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec < seconds && !atomic_load(&stop));
    atomic_store(&stop, 1);
    pthread_join(sender, 0);
    for (int i = 0; i < count; i++) pthread_join(threads[i], 0);
    long shared = 0;
    for (int i = 0; i < WORKERS; i++) shared += shares[i];
    if (shared != sum) wrong("sum");
    fprintf(stderr, "%ld signals; rounds:", atomic_load(&signals));
    for (int i = 0; i < 5; i++) {
        fprintf(stderr, " %ld", atomic_load(&rounds[i]));
        if (atomic_load(&rounds[i]) == 0 && seconds > 0) wrong("nothing done");
    }
    fprintf(stderr, "\n");
    if (!atomic_load(&failed)) printf("ok\n");
    return atomic_load(&failed);
}
