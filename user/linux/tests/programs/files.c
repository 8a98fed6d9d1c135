// Files: what stat tells, vectors, waiting, sockets with descriptors, locks, directories.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    char folder[] = "/tmp/tinamou-test-XXXXXX";
    mkdtemp(folder);
    if (chdir(folder)) return 1;
    int fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0640);
    struct iovec list[2] = {{"hello ", 6}, {"world", 5}};
    printf("writev: %zd\n", writev(fd, list, 2));
    struct stat about;
    fstat(fd, &about);
    printf("stat: %o %ld %ld %d %ld\n", about.st_mode, (long)about.st_nlink, (long)about.st_size, (int)about.st_blksize, (long)about.st_blocks);
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    futimens(fd, times);
    stat("file", &about);
    printf("times: %ld.%ld %ld.%ld\n", (long)about.st_atim.tv_sec, about.st_atim.tv_nsec, (long)about.st_mtim.tv_sec, about.st_mtim.tv_nsec);
    struct statx extended;
    statx(AT_FDCWD, "file", 0, STATX_ALL, &extended);
    printf("statx: %ld %d\n", (long)extended.stx_size, extended.stx_ino == about.st_ino);
    char text[16] = {0};
    struct iovec into[2] = {{text + 8, 3}, {text, 4}};
    printf("preadv: %zd %s %s\n", preadv(fd, into, 2, 2), text, text + 8);
    printf("lseek: %ld %s\n", (long)lseek(fd, -1, SEEK_SET), strerror(errno));
    printf("pread: %zd\n", pread(fd, text, 16, 6));
    printf("open: %d %s\n", open("file", O_DIRECTORY), strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_len = 5};
    printf("lock: %d\n", fcntl(fd, F_SETLK, &lock));
    mkdir("d", 0700);
    symlink("file", "link");
    readlink("link", text, 16);
    printf("link: %.4s\n", text);
    DIR *dir = opendir(".");
    int entries = 0;
    while (readdir(dir)) entries++;
    closedir(dir);
    printf("entries: %d\n", entries);
    printf("rename: %d, %d %s\n", rename("file", "d/other"), rmdir("d"), strerror(errno));
    struct statfs system;
    printf("statfs: %d %d\n", statfs("/proc", &system), system.f_type == 0x9fa0);

    int epoll = epoll_create1(0), event = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
    epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted);
    wanted.data.u64 = 99;
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &wanted);
    struct epoll_event found[4];
    printf("epoll: %d\n", epoll_wait(epoll, found, 4, 0));
    unsigned long one = 1;
    write(event, &one, 8);
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    timerfd_settime(timer, 0, &soon, 0);
    struct pollfd both[2] = {{event, POLLIN, 0}, {timer, POLLIN, 0}};
    while (poll(both, 2, -1) != 2);
    int n = epoll_wait(epoll, found, 4, -1);
    unsigned long sum = 0;
    for (int i = 0; i < n; i++) sum += found[i].data.u64;
    printf("epoll: %d %#lx\n", n, sum);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(event, &set);
    struct timeval now = {0, 0};
    printf("select: %d\n", select(event + 1, &set, 0, 0, &now));

    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = list, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    *(int *)CMSG_DATA(head) = fd;
    printf("sendmsg: %zd\n", sendmsg(pair[0], &message, 0));
    int waiting;
    printf("FIONREAD: %d %d\n", ioctl(pair[1], FIONREAD, &waiting), waiting);
    memset(control, 0, sizeof control);
    struct iovec target = {text, 16};
    message.msg_iov = &target;
    message.msg_iovlen = 1;
    printf("recvmsg: %zd %.11s\n", recvmsg(pair[1], &message, 0), text);
    int sent = *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    struct stat again;
    printf("descriptor: %d %d\n", fstat(sent, &again), again.st_ino == about.st_ino);
    struct timeval patience = {3, 4};
    socklen_t len = sizeof patience;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    patience.tv_sec = 0;
    getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, &len);
    printf("timeout: %ld\n", (long)patience.tv_sec);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    printf("bind: %d %d\n", bind(server, (void *)&name, sizeof name), listen(server, 1));
    printf("connect: %d, accept: %d\n", connect(client, (void *)&name, sizeof name), accept(server, 0, 0) > 0);
    int semaphore = semget(IPC_PRIVATE, 1, 0600);
    struct semid_ds status;
    semctl(semaphore, 0, SETVAL, 3);
    semctl(semaphore, 0, IPC_STAT, &status);
    printf("semaphore: %d %d\n", semctl(semaphore, 0, GETVAL), (int)status.sem_nsems);
    semctl(semaphore, 0, IPC_RMID);
    printf("ioctl: %d %s\n", ioctl(fd, TIOCGWINSZ, text), strerror(errno));
    unlink("d/other");
    unlink("link");
    unlink("sock");
    rmdir("d");
    printf("clean: %d\n", rmdir(folder));
    return 0;
}
