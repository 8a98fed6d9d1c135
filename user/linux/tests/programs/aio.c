// Asynchronous input and output: submissions, events, an eventfd, errors.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static aio_context_t context;

static void *submit_later(void *request) {
    usleep(20000);
    struct iocb *list[1] = {request};
    syscall(SYS_io_submit, context, 1, list);
    return 0;
}

int main(void) {
    char text[16] = {0};
    char name[] = "/tmp/tinamou-test-XXXXXX";
    int fd = mkostemp(name, 0);
    unlink(name);
    int bell = eventfd(0, EFD_NONBLOCK);
    printf("setup: %ld\n", syscall(SYS_io_setup, 8, &context));
    printf("again: %ld %s\n", syscall(SYS_io_setup, 8, &context), strerror(errno));
    struct iocb write_one = {.aio_data = 7, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd, .aio_buf = (unsigned long)"hello", .aio_nbytes = 5, .aio_offset = 3, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = bell};
    struct iocb *list[3] = {&write_one};
    struct io_event events[4];
    printf("submit: %ld\n", syscall(SYS_io_submit, context, 1, list));
    printf("events: %ld\n", syscall(SYS_io_getevents, context, 1, 4, events, 0));
    printf("event: %d %d %d\n", (int)events[0].data, (int)events[0].res, events[0].obj == (unsigned long)&write_one);
    unsigned long count = 0;
    printf("bell: %zd %lu\n", read(bell, &count, 8), count);
    struct iocb read_one = {.aio_data = 8, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (unsigned long)text, .aio_nbytes = 16, .aio_offset = 3};
    struct iocb sync_one = {.aio_data = 9, .aio_lio_opcode = IOCB_CMD_FSYNC, .aio_fildes = fd};
    list[0] = &read_one;
    list[1] = &sync_one;
    printf("submit: %ld\n", syscall(SYS_io_submit, context, 2, list));
    printf("events: %ld %s\n", syscall(SYS_io_getevents, context, 2, 4, events, 0), text);
    struct timespec soon = {0, 1000000};
    printf("none: %ld\n", syscall(SYS_io_getevents, context, 1, 4, events, &soon));
    pthread_t thread;
    pthread_create(&thread, 0, submit_later, &read_one);
    printf("waited: %ld %d\n", syscall(SYS_io_getevents, context, 1, 4, events, 0), (int)events[0].data);
    pthread_join(thread, 0);
    read_one.aio_fildes = 999;
    printf("bad file: %ld %s\n", syscall(SYS_io_submit, context, 1, list), strerror(errno));
    printf("destroy: %ld\n", syscall(SYS_io_destroy, context));
    printf("again: %ld %s\n", syscall(SYS_io_destroy, context), strerror(errno));
    return 0;
}
