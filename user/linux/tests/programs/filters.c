// seccomp: filters of system calls.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined __riscv
#define ARCH (__riscv_xlen == 64 ? 0xc00000f3 : 0x400000f3)
#elif defined __x86_64__
#define ARCH 0xc000003e
#else
#define ARCH 0x40000003
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define IS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n)

static const char *self;

static long add(struct sock_filter *list, int count, unsigned flags)
{
    struct sock_fprog program = { (unsigned short)count, list };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void number(const char *what, long value) { printf("%s %ld\n", what, value); }

// Answers a call with an action; another architecture kills.
static long answer(int call, unsigned action, unsigned flags)
{
    struct sock_filter list[] = {
        LOAD(arch), IS(ARCH, 3), LOAD(nr), IS((unsigned)call, 2), RETURN(action),
        RETURN(SECCOMP_RET_KILL_PROCESS), RETURN(SECCOMP_RET_ALLOW),
    };
    return add(list, sizeof list / sizeof *list, flags);
}

static void in_child(const char *name, void (*body)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        body();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) printf("%s: killed %d\n", name, WTERMSIG(status));
    else printf("%s: exited %d\n", name, WEXITSTATUS(status));
}

static void errors(void)
{
    number("mode", prctl(PR_GET_SECCOMP));
    number("add", answer(SYS_getppid, SECCOMP_RET_ERRNO | 77, 0));
    number("mode", prctl(PR_GET_SECCOMP));
    number("call", syscall(SYS_getppid));
    number("errno", errno);
    number("zero", answer(SYS_getpgid, SECCOMP_RET_ERRNO, 0));
    number("call", syscall(SYS_getpgid, 12345));
    // The strictest of all counts.
    number("allow", answer(SYS_getppid, SECCOMP_RET_ALLOW, 0));
    number("call", syscall(SYS_getppid));
    pid_t pid = fork();
    if (pid == 0) _exit(syscall(SYS_getppid) == -1 ? errno : 0);
    int status;
    waitpid(pid, &status, 0);
    number("child", WEXITSTATUS(status));
    pid = vfork();
    if (pid == 0) {
        execl(self, self, "executed", (char *)0);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    number("executed", WEXITSTATUS(status));
    number("traced", answer(SYS_getsid, SECCOMP_RET_TRACE | 5, 0));
    number("call", syscall(SYS_getsid, 0));
    number("errno", errno);
}

static void arguments(void)
{
    struct sock_filter list[] = {
        LOAD(nr), IS(SYS_close, 3), LOAD(args[0]), IS(4711, 1),
        RETURN(SECCOMP_RET_ERRNO | 9999), RETURN(SECCOMP_RET_ALLOW),
    };
    number("add", add(list, 6, 0));
    syscall(SYS_close, 4711);
    number("errno", errno);
    syscall(SYS_close, 4712);
    number("errno", errno);
    // What the program computes: A = (len / 2 ^ 5) << 1 | X.
    struct sock_filter computed[] = {
        LOAD(nr), IS(SYS_getpgid, 9),
        BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_MISC | BPF_TXA, 0),
        BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 2), BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 5),
        BPF_STMT(BPF_ST, 3), BPF_STMT(BPF_LDX | BPF_MEM, 3),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO), BPF_STMT(BPF_RET | BPF_A, 0),
        RETURN(SECCOMP_RET_ALLOW),
    };
    number("add", add(computed, 12, 0));
    syscall(SYS_getpgid, 0);
    number("errno", errno);
}

static void on_sys(int signal, siginfo_t *info, void *context)
{
    printf("signal %d code %d errno %d call %d arch %d\n", signal, info->si_code, info->si_errno,
           info->si_syscall == SYS_getppid, info->si_arch == ARCH);
}

static void traps(void)
{
    struct sigaction action = { .sa_sigaction = on_sys, .sa_flags = SA_SIGINFO };
    sigaction(SIGSYS, &action, 0);
    number("add", answer(SYS_getppid, SECCOMP_RET_TRAP | 42, 0));
    syscall(SYS_getppid);
    signal(SIGSYS, SIG_IGN);
    syscall(SYS_getppid);
}

static void kills(void)
{
    answer(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
    syscall(SYS_getppid);
}

static void kills_thread(void)
{
    answer(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
    syscall(SYS_getppid);
}

static void strict(void)
{
    number("strict", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    fflush(stdout);
    syscall(SYS_getppid);
}

static pthread_barrier_t barrier;

static void *waits(void *unused)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    errno = 0;
    syscall(SYS_getppid);
    number("other thread", errno);
    return unused;
}

static void together(void)
{
    pthread_t thread;
    pthread_barrier_init(&barrier, 0, 2);
    pthread_create(&thread, 0, waits, 0);
    pthread_barrier_wait(&barrier);
    number("all", answer(SYS_getppid, SECCOMP_RET_ERRNO | 66, SECCOMP_FILTER_FLAG_TSYNC));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, 0);
}

static void refusals(void)
{
    struct sock_filter none[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0) };
    struct sock_filter outside[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RETURN(0) };
    struct sock_filter jump[] = { BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0), RETURN(0) };
    struct sock_filter unset[] = { BPF_STMT(BPF_LD | BPF_MEM, 1), RETURN(0) };
    struct sock_filter good[] = { RETURN(SECCOMP_RET_ALLOW) };
    number("no return", add(none, 1, 0) == -1 && errno == EINVAL);
    number("outside", add(outside, 2, 0) == -1 && errno == EINVAL);
    number("jump", add(jump, 2, 0) == -1 && errno == EINVAL);
    number("unset", add(unset, 2, 0) == -1 && errno == EINVAL);
    number("empty", add(good, 0, 0) == -1 && errno == EINVAL);
    number("address", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 16) == -1 && errno == EFAULT);
    number("flags", add(good, 1, 1 << 20) == -1 && errno == EINVAL);
    number("operation", syscall(SYS_seccomp, 77, 0, 0) == -1 && errno == EINVAL);
    uint32_t actions[] = { SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP, SECCOMP_RET_ALLOW, 0x12340000 };
    for (int n = 0; n < 4; n++)
        number("available", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &actions[n]));
    int n = 0;
    while (n < 100000 && add(good, 1, 0) == 0) n++;
    number("filters", n > 1000 && n < 8000 && errno == ENOMEM);
}

int main(int count, char **words)
{
    self = words[0];
    if (count > 1) return syscall(SYS_getppid) == -1 ? errno : 0;
    alarm(60);
    in_child("errors", errors);
    in_child("arguments", arguments);
    in_child("traps", traps);
    in_child("kills", kills);
    in_child("kills thread", kills_thread);
    in_child("strict", strict);
    in_child("together", together);
    in_child("refusals", refusals);
    return 0;
}
