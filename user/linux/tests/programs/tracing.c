// ptrace: what a tracer sees of its child, apart from addresses.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PTRACE_GET_SYSCALL_INFO
#define PTRACE_GET_SYSCALL_INFO 0x420e
#endif

struct info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp;
    union {
        struct { uint64_t nr, args[6]; } entry;
        struct { int64_t rval; uint8_t is_error; } exit;
    };
};

volatile long shared = 1;
static const char *self;

static void show(const char *what, int status)
{
    printf("%s: ", what);
    if (WIFEXITED(status)) printf("exited %d\n", WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) printf("killed %d\n", WTERMSIG(status));
    else if (WIFSTOPPED(status)) printf("stopped %d event %d\n", WSTOPSIG(status), status >> 16);
    else printf("status %x\n", status);
}

static int get(pid_t pid)
{
    int status = 0;
    if (waitpid(pid, &status, __WALL) != pid) printf("no wait: %s\n", strerror(errno));
    return status;
}

static void handler(int number) { shared += number; }

static pid_t child(void (*body)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(99);
        raise(SIGSTOP);
        body();
        _exit(7);
    }
    return pid;
}

static void signals(void)
{
    signal(SIGUSR1, handler);
    shared = 0;
    raise(SIGUSR1);
    raise(SIGUSR2);
    raise(SIGWINCH);
    _exit((int)shared);
}

static void test_signals(void)
{
    pid_t pid = child(signals);
    siginfo_t info;
    show("first", get(pid));
    printf("cont %ld\n", ptrace(PTRACE_CONT, pid, 0, 0));
    show("usr1", get(pid));
    ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
    printf("info %d %d %d\n", info.si_signo, info.si_code == SI_TKILL, info.si_pid == pid);
    ptrace(PTRACE_CONT, pid, 0, SIGUSR1);
    show("usr2", get(pid));
    // It would end by this one, and gets another.
    ptrace(PTRACE_CONT, pid, 0, SIGUSR1);
    show("winch", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("end", get(pid));
    printf("gone %d", (int)ptrace(PTRACE_CONT, pid, 0, 0));
    printf(" %d\n", errno == ESRCH);
}

static void calls(void)
{
    syscall(SYS_getppid);
    syscall(SYS_close, -1);
    syscall(SYS_kill, getpid(), 0);
}

static void test_calls(void)
{
    pid_t pid = child(calls);
    show("first", get(pid));
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD);
    pid_t parent = getpid();
    for (int n = 0; n < 40; n++) {
        if (ptrace(PTRACE_SYSCALL, pid, 0, 0)) break;
        int status = get(pid);
        if (!WIFSTOPPED(status)) { show("end", status); return; }
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) { show("other", status); continue; }
        struct info info;
        memset(&info, 0, sizeof info);
        long len = ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
        if (info.op == 1) {
            uint64_t nr = info.entry.nr;
            if (nr == SYS_getppid) printf("getppid %ld\n", len);
            else if (nr == SYS_close) printf("close %d\n", (int)info.entry.args[0]);
            else if (nr == SYS_kill) printf("kill %d\n", info.entry.args[0] == pid);
            else if (nr == SYS_exit_group) printf("exit %d\n", (int)info.entry.args[0]);
        } else if (info.op == 2) {
            int64_t value = info.exit.rval;
            if (value == parent) printf("parent's number\n");
            else if (value == pid) printf("own number\n");
            else printf("= %ld error %d\n", (long)value, info.exit.is_error);
        } else printf("op %d\n", info.op);
    }
}

static long target(long x) { shared = x; return shared + 1; }

static void memory(void)
{
    shared = 5;
    raise(SIGUSR1);
    _exit((int)target(shared));
}

static void test_memory(void)
{
    pid_t pid = child(memory);
    show("first", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("usr1", get(pid));
    errno = 0;
    printf("peek %ld %d\n", ptrace(PTRACE_PEEKDATA, pid, &shared, 0), errno);
    printf("poke %ld\n", ptrace(PTRACE_POKEDATA, pid, &shared, 40));
    long bad = ptrace(PTRACE_PEEKDATA, pid, 8, 0);
    printf("bad %d\n", bad == -1 && errno == EIO);
    char bytes[4096];
    struct iovec vector = { bytes, sizeof bytes };
    printf("regs %ld", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector));
    printf(" %d\n", vector.iov_len >= 68);
    printf("set %ld\n", ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vector));
    vector.iov_len = sizeof bytes;
    printf("float %ld", ptrace(PTRACE_GETREGSET, pid, NT_FPREGSET, &vector));
    printf(" %d\n", vector.iov_len >= 108);
    vector.iov_len = sizeof bytes;
    printf("none %ld", ptrace(PTRACE_GETREGSET, pid, 0x7777, &vector));
    printf(" %d\n", errno == EINVAL);
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("end", get(pid));
}

static void forks(void)
{
    pid_t pid = fork();
    if (pid == 0) _exit(3);
    int status;
    waitpid(pid, &status, 0);
    execl(self, self, "child", (char *)0);
    _exit(98);
}

static void test_forks(void)
{
    pid_t pid = child(forks), second = 0;
    show("first", get(pid));
    ptrace(PTRACE_SETOPTIONS, pid, 0,
           PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL);
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("fork", get(pid));
    unsigned long message = 0;
    printf("message %ld", ptrace(PTRACE_GETEVENTMSG, pid, 0, &message));
    second = (pid_t)message;
    printf(" %d\n", second > 0 && second != pid);
    show("child", get(second));
    ptrace(PTRACE_CONT, second, 0, 0);
    show("child leaves", get(second));
    ptrace(PTRACE_GETEVENTMSG, second, 0, &message);
    printf("status %lx\n", message);
    ptrace(PTRACE_CONT, second, 0, 0);
    show("child's end", get(second));
    ptrace(PTRACE_CONT, pid, 0, 0);
    int status = get(pid);
    // SIGCHLD comes at one time or the other.
    while (WIFSTOPPED(status) && status >> 8 == SIGCHLD) {
        ptrace(PTRACE_CONT, pid, 0, 0);
        status = get(pid);
    }
    show("exec", status);
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
    printf("former %d\n", (pid_t)message == pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("leaves", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("end", get(pid));
}

static void test_traced_exec(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execl(self, self, "child", (char *)0);
        _exit(98);
    }
    show("executed", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("end", get(pid));
}

static void test_seize(void)
{
    fflush(stdout);
    int fds[2];
    pipe(fds);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(fds[1]);
        while (read(fds[0], &byte, 1) == 1) shared++;
        _exit((int)shared);
    }
    close(fds[0]);
    printf("seize %ld\n", ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    printf("interrupt %ld\n", ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    show("interrupted", get(pid));
    printf("cont %ld\n", ptrace(PTRACE_CONT, pid, 0, 0));
    kill(pid, SIGSTOP);
    show("stop signal", get(pid));
    ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
    show("group stop", get(pid));
    printf("listen %ld\n", ptrace(PTRACE_LISTEN, pid, 0, 0));
    kill(pid, SIGCONT);
    show("continued", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("sigcont", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    write(fds[1], "xy", 2);
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    show("interrupted", get(pid));
    printf("detach %ld\n", ptrace(PTRACE_DETACH, pid, 0, 0));
    close(fds[1]);
    show("end", get(pid));
}

static void test_attach(void)
{
    fflush(stdout);
    int fds[2];
    pipe(fds);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(fds[1]);
        read(fds[0], &byte, 1);
        _exit(5);
    }
    close(fds[0]);
    printf("attach %ld\n", ptrace(PTRACE_ATTACH, pid, 0, 0));
    siginfo_t info;
    memset(&info, 0, sizeof info);
    printf("waitid %d", waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
    printf(" %d %d %d\n", info.si_code == CLD_TRAPPED, info.si_status, info.si_pid == pid);
    show("attached", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    kill(pid, SIGKILL);
    show("killed", get(pid));
    printf("none %d", (int)waitpid(-1, 0, __WALL));
    printf(" %d\n", errno == ECHILD);
    close(fds[1]);
}

static void *second_thread(void *unused)
{
    shared = 77;
    syscall(SYS_getppid);
    return unused;
}

static void threads(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, second_thread, 0);
    pthread_join(thread, 0);
    _exit((int)shared);
}

static void test_threads(void)
{
    pid_t pid = child(threads);
    show("first", get(pid));
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE);
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("clone", get(pid));
    unsigned long message;
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
    pid_t tid = (pid_t)message;
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("thread", get(tid));
    ptrace(PTRACE_CONT, tid, 0, 0);
    // The end of the process may come first.
    printf("thread's end %d\n", WIFEXITED(get(tid)));
    show("end", get(pid));
}

static void crashes(void) { *(volatile int *)16 = 1; }

static void test_crash(void)
{
    pid_t pid = child(crashes);
    show("first", get(pid));
    ptrace(PTRACE_CONT, pid, 0, 0);
    show("fault", get(pid));
    siginfo_t info;
    ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
    printf("info %d %d %ld\n", info.si_signo, info.si_code, (long)info.si_addr);
    ptrace(PTRACE_CONT, pid, 0, SIGSEGV);
    int status = get(pid);
    printf("killed %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : -status);
}

int main(int count, char **words)
{
    setvbuf(stdout, 0, _IOFBF, 65536);
    alarm(60);
    self = words[0];
    if (count > 1 && !strcmp(words[1], "child")) return 11;
    const struct { const char *name; void (*run)(void); } tests[] = {
        { "signals", test_signals }, { "calls", test_calls }, { "memory", test_memory },
        { "forks", test_forks }, { "exec", test_traced_exec }, { "seize", test_seize },
        { "attach", test_attach }, { "threads", test_threads }, { "crash", test_crash },
    };
    for (unsigned n = 0; n < sizeof tests / sizeof *tests; n++) {
        if (count > 1 && strcmp(words[1], tests[n].name)) continue;
        printf("-- %s\n", tests[n].name);
        tests[n].run();
    }
    return 0;
}
