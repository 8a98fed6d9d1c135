// Processes: start, argument lists, execution, waiting, names in /proc.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int run(char **arguments) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execv(arguments[0], arguments);
        printf("cannot execute: %s\n", strerror(errno));
        fflush(stdout);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void show(const char *name) {
    char text[4096];
    int fd = open(name, O_RDONLY);
    int len = read(fd, text, sizeof text);
    for (int i = 0; i < len; i++)
        if (!text[i]) text[i] = '|';
    printf("%.*s\n", len, text);
    close(fd);
}

int main(int count, char **arguments) {
    if (count > 1) {
        for (int i = 1; i < count; i++) printf("[%s]", arguments[i]);
        printf(" %s %s\n", arguments[0], getenv("WHAT") ? getenv("WHAT") : "-");
        return count;
    }
    char self[4096];
    int len = readlink("/proc/self/exe", self, sizeof self - 1);
    self[len] = 0;
    printf("self: %s\n", strrchr(self, '/') + 1);
    show("/proc/self/cmdline");
    printf("page %ld, entry %d, random %d, secure %ld\n", getauxval(AT_PAGESZ), getauxval(AT_ENTRY) != 0, getauxval(AT_RANDOM) != 0, getauxval(AT_SECURE));
    printf("stack aligned: %d\n", (int)((unsigned long)__builtin_frame_address(0) & 15));
    struct utsname names;
    uname(&names);
    printf("machine: %s\n", names.machine);

    setenv("WHAT", "an environment", 1);
    printf("code %d\n", run((char *[]){self, "a", "b c", "", 0}));
    printf("code %d\n", run((char *[]){"/proc/self/exe", "again", 0}));
    printf("code %d\n", run((char *[]){"/bin/sh", "-c", "echo the host\\'s $0; kill -9 $$", "name", 0}));
    printf("code %d\n", run((char *[]){"/nonexistent", 0}));
    printf("code %d\n", run((char *[]){"/etc/passwd", 0}));

    // A script of a foreign interpreter.
    char script[] = "/tmp/tinamou-test-XXXXXX";
    int fd = mkstemp(script);
    dprintf(fd, "#!%s option\n", self);
    fchmod(fd, 0755);
    close(fd);
    int code = run((char *[]){script, "x", 0});
    printf("script: code %d\n", code);
    unlink(script);

    pid_t child;
    int status, done = posix_spawn(&child, self, 0, 0, (char *[]){self, "spawned", 0}, environ);
    waitpid(child, &status, 0);
    printf("spawn: %d %d\n", done, WEXITSTATUS(status));
    printf("spawn: %s\n", strerror(posix_spawn(&child, "/nonexistent", 0, 0, arguments, environ)));
    child = vfork();
    if (child == 0) _exit(11);
    waitpid(child, &status, 0);
    printf("vfork: %d\n", WEXITSTATUS(status));

    child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(4);
    }
    siginfo_t info = {0};
    waitid(P_PID, child, &info, WSTOPPED);
    printf("waitid: %d %d\n", info.si_code == CLD_STOPPED, info.si_status == SIGSTOP);
    kill(child, SIGCONT);
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    printf("wait4: %d %d\n", WEXITSTATUS(status), usage.ru_maxrss > 0);
    struct {
        unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } wish = {.exit_signal = SIGCHLD};
    long made = syscall(SYS_clone3, &wish, sizeof wish);
    if (made == 0) _exit(12);
    waitpid(made, &status, 0);
    printf("clone3: %d\n", WEXITSTATUS(status));
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 77;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("limit: %ld\n", (long)limit.rlim_cur);
    printf("closed: %d, ours: %d\n", close_range(3, ~0u, 0), close(3));
    printf("after that: %d\n", run((char *[]){self, "a", 0}));
    printf("unknown: %ld %s\n", syscall(4000), strerror(errno));
    abort();
}
