/* Runs code on this processor: reads requests from standard input, writes what became of them.
 *
 * A request is a `struct Request`: registers, code, contents of the data window. The code runs from its
 * first byte on until it faults; it should end with something that does (HLT). The answer is a
 * `struct Answer`. The registers get in and out through signal frames: a handler replaces the interrupted
 * state by the request's, and puts it back when the code has faulted. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE 0x20000000ul
#define CODE_LEN 0x1000ul
#define DATA 0x10000000ul
#define DATA_LEN 0x2000ul

struct Regs {
    uint64_t gpr[16]; /* in the order of encodings */
    uint64_t rip, rflags;
    uint8_t zmm[32][64];
    uint64_t k[8];
    uint8_t st[8][16]; /* from ST(0) on */
    uint32_t mxcsr;
    uint16_t fcw, fsw;
    uint16_t ftw, fop; /* the tag word is the abridged one */
    uint32_t bits;     /* width of code: 16, 32 or 64 */
};

struct Request {
    struct Regs regs;
    uint8_t code[256];
    uint8_t data[DATA_LEN];
};

struct Answer {
    struct Regs regs;
    uint32_t signal, trap, error, code;
    uint64_t address;
    uint8_t data[DATA_LEN];
};

static struct Request request;
static struct Answer answer;
static ucontext_t before;
static uint8_t before_fp[16384] __attribute__((aligned(64)));
static size_t fp_len;
static volatile sig_atomic_t running;
static unsigned at_ymm, at_k, at_zmm, at_high;
static uint64_t features;

/* Where signal frames have the general registers. */
static const int PLACE[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static unsigned component(unsigned n) {
    unsigned a, b, c, d;
    __cpuid_count(0xd, n, a, b, c, d);
    return a ? b : 0;
}

static void put_fp(uint8_t *fp, const struct Regs *r) {
    memcpy(fp, &r->fcw, 2);
    memcpy(fp + 2, &r->fsw, 2);
    fp[4] = (uint8_t)r->ftw;
    fp[5] = 0;
    memset(fp + 6, 0, 18);
    memcpy(fp + 24, &r->mxcsr, 4);
    for (int i = 0; i < 8; i++)
        memcpy(fp + 32 + 16 * i, r->st[i], 10);
    for (int i = 0; i < 16; i++) {
        memcpy(fp + 160 + 16 * i, r->zmm[i], 16);
        if (at_ymm)
            memcpy(fp + at_ymm + 16 * i, r->zmm[i] + 16, 16);
        if (at_zmm) {
            memcpy(fp + at_zmm + 32 * i, r->zmm[i] + 32, 32);
            memcpy(fp + at_high + 64 * i, r->zmm[16 + i], 64);
        }
    }
    if (at_k)
        memcpy(fp + at_k, r->k, 64);
    memcpy(fp + 512, &features, 8);
}

static void get_fp(const uint8_t *fp, struct Regs *r) {
    uint64_t present;
    memcpy(&present, fp + 512, 8);
    memcpy(&r->fcw, fp, 2);
    memcpy(&r->fsw, fp + 2, 2);
    r->ftw = fp[4];
    memcpy(&r->fop, fp + 6, 2);
    memcpy(&r->mxcsr, fp + 24, 4);
    memset(r->zmm, 0, sizeof r->zmm);
    memset(r->k, 0, sizeof r->k);
    memset(r->st, 0, sizeof r->st);
    if (present & 1)
        for (int i = 0; i < 8; i++)
            memcpy(r->st[i], fp + 32 + 16 * i, 10);
    for (int i = 0; i < 16; i++) {
        if (present & 2)
            memcpy(r->zmm[i], fp + 160 + 16 * i, 16);
        if (at_ymm && (present & 4))
            memcpy(r->zmm[i] + 16, fp + at_ymm + 16 * i, 16);
        if (at_zmm && (present & 0x40))
            memcpy(r->zmm[i] + 32, fp + at_zmm + 32 * i, 32);
        if (at_high && (present & 0x80))
            memcpy(r->zmm[16 + i], fp + at_high + 64 * i, 64);
    }
    if (at_k && (present & 0x20))
        memcpy(r->k, fp + at_k, 64);
}

static void put_segment(ucontext_t *u, uint16_t cs) {
    uint64_t all = (uint64_t)u->uc_mcontext.gregs[REG_CSGSFS];
    u->uc_mcontext.gregs[REG_CSGSFS] = (greg_t)((all & ~0xfffful) | cs);
}

/* Into the request's state. */
static void enter(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    ucontext_t *u = context;
    uint8_t *fp = (uint8_t *)u->uc_mcontext.fpregs;
    uint32_t size;
    memcpy(&size, fp + 464 + 4, 4);
    fp_len = size < sizeof before_fp ? size : sizeof before_fp;
    before = *u;
    memcpy(before_fp, fp, fp_len);
    for (int i = 0; i < 16; i++)
        u->uc_mcontext.gregs[PLACE[i]] = (greg_t)request.regs.gpr[i];
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)request.regs.rip;
    u->uc_mcontext.gregs[REG_EFL] = (greg_t)request.regs.rflags;
    put_fp(fp, &request.regs);
    if (request.regs.bits == 32)
        put_segment(u, 0x23);
    running = 1;
}

/* Out of it. */
static void leave(int signal, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    uint8_t *fp = (uint8_t *)u->uc_mcontext.fpregs;
    if (!running) {
        fprintf(stderr, "run: signal %d at %p\n", signal, (void *)u->uc_mcontext.gregs[REG_RIP]);
        _exit(2);
    }
    running = 0;
    struct Regs *r = &answer.regs;
    memset(r, 0, sizeof *r);
    for (int i = 0; i < 16; i++)
        r->gpr[i] = (uint64_t)u->uc_mcontext.gregs[PLACE[i]];
    r->rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP];
    r->rflags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
    get_fp(fp, r);
    r->bits = request.regs.bits;
    answer.signal = (uint32_t)signal;
    answer.trap = (uint32_t)u->uc_mcontext.gregs[REG_TRAPNO];
    answer.error = (uint32_t)u->uc_mcontext.gregs[REG_ERR];
    answer.code = (uint32_t)info->si_code;
    answer.address = (uint64_t)u->uc_mcontext.gregs[REG_CR2];
    memcpy(answer.data, (void *)DATA, DATA_LEN);
    memcpy(fp, before_fp, fp_len);
    void *fpregs = u->uc_mcontext.fpregs;
    memcpy(u->uc_mcontext.gregs, before.uc_mcontext.gregs, sizeof before.uc_mcontext.gregs);
    u->uc_mcontext.fpregs = fpregs;
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = handler;
    act.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&act.sa_mask);
    if (sigaction(signal, &act, NULL))
        abort();
}

static void *map(uintptr_t at, size_t len, int prot) {
    void *p = mmap((void *)at, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) {
        perror("run: mmap");
        exit(1);
    }
    return p;
}

static int all(int (*move)(uint8_t *, size_t), void *buffer, size_t len) {
    for (size_t done = 0; done < len;) {
        int n = move((uint8_t *)buffer + done, len - done);
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

static int get(uint8_t *to, size_t len) { return (int)read(0, to, len); }
static int put(uint8_t *from, size_t len) { return (int)write(1, from, len); }

int main(void) {
    uint8_t *code = map(CODE, CODE_LEN, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint8_t *data = map(DATA, DATA_LEN, PROT_READ | PROT_WRITE);
    stack_t stack = {.ss_sp = malloc(0x40000), .ss_size = 0x40000};
    if (sigaltstack(&stack, NULL))
        return 1;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    features = low & 0xe7;
    at_ymm = features & 4 ? component(2) : 0;
    at_k = features & 0x20 ? component(5) : 0;
    at_zmm = features & 0x40 ? component(6) : 0;
    at_high = features & 0x80 ? component(7) : 0;
    handle(SIGUSR1, enter);
    int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        handle(faults[i], leave);
    /* For code of 32 bits. */
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"(0x2b));
    while (all(get, &request, sizeof request)) {
        /* What is executed is not written: the engine's interpreter does not look again at once. */
        mprotect(code, CODE_LEN, PROT_READ | PROT_WRITE);
        memset(code, 0xf4, CODE_LEN);
        memcpy(code, request.code, sizeof request.code);
        mprotect(code, CODE_LEN, PROT_READ | PROT_EXEC);
        memcpy(data, request.data, DATA_LEN);
        memset(&answer, 0, sizeof answer);
        struct itimerval limit = {.it_value = {.tv_sec = 2}};
        setitimer(ITIMER_REAL, &limit, NULL);
        raise(SIGUSR1);
        limit.it_value.tv_sec = 0;
        setitimer(ITIMER_REAL, &limit, NULL);
        if (!all(put, &answer, sizeof answer))
            return 1;
    }
    return 0;
}
