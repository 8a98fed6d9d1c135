// Signals of faults: what they tell, on which stack, and how handlers return.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static char *alternate;
static char *page;

static void leave(int signal, siginfo_t *info, void *context) {
    (void)context;
    char here;
    int on_alternate = &here >= alternate && &here < alternate + 65536;
    printf("%s: code %d, address %#lx, %s stack\n", strsignal(signal), info->si_code,
           info->si_code > 0 ? (unsigned long)info->si_addr - ((unsigned long)info->si_addr > 0x100000 ? (unsigned long)page : 0) : 0,
           on_alternate ? "alternate" : "own");
    siglongjmp(back, 1);
}

static void repair(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    mprotect((void *)((unsigned long)info->si_addr & -4096), 4096, PROT_READ | PROT_WRITE);
}

static void skip(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    ucontext_t *user = context;
    user->uc_mcontext.__gregs[REG_PC] += 4;
    user->uc_mcontext.__gregs[REG_A0] = 77;
}

static void with(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, 0);
}

int main(void) {
    alternate = malloc(65536);
    stack_t stack = {.ss_sp = alternate, .ss_size = 65536};
    sigaltstack(&stack, 0);
    page = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    with(SIGSEGV, leave, SA_ONSTACK);
    with(SIGBUS, leave, 0);
    with(SIGILL, leave, 0);
    with(SIGTRAP, leave, 0);
    if (!sigsetjmp(back, 1)) *(volatile int *)0x1238 = 1;
    if (!sigsetjmp(back, 1)) page[5] = 1;
    if (!sigsetjmp(back, 1)) ((void (*)(void))0x5000)();
    if (!sigsetjmp(back, 1)) ((void (*)(void))page)();
    if (!sigsetjmp(back, 1)) kill(getpid(), SIGSEGV);
    if (!sigsetjmp(back, 1)) __asm__ volatile(".word 0xffffffff");
    if (!sigsetjmp(back, 1)) __asm__ volatile("ebreak");
    FILE *file = tmpfile();
    char *beyond = mmap(0, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    page = beyond;
    if (!sigsetjmp(back, 1)) (void)*(volatile char *)(beyond + 8);

    with(SIGSEGV, repair, 0);
    char *closed = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    closed[9] = 5;
    printf("repaired: %d\n", closed[9]);
    with(SIGILL, skip, 0);
    register long a0 __asm__("a0") = 0;
    __asm__ volatile(".word 0xffffffff" : "+r"(a0));
    printf("skipped: %ld\n", a0);

    // A blocked fault ends the process.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, 0);
    kill(getpid(), SIGSEGV);
    sigset_t pending;
    sigpending(&pending);
    printf("pending: %d\n", sigismember(&pending, SIGSEGV));
    with(SIGSEGV, leave, 0);
    page = closed;
    if (!sigsetjmp(back, 1)) sigprocmask(SIG_UNBLOCK, &set, 0);
    fflush(stdout);
    sigprocmask(SIG_BLOCK, &set, 0);
    *(volatile int *)0x1238 = 1;
}
