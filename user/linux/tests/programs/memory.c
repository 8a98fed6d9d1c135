// Memory: mapping, protection, growth, code that is written, shared memory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

static const char *result(void *at) { return at == MAP_FAILED ? strerror(errno) : "mapped"; }

int main(void) {
    char *area = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 1, 8 * PAGE);
    printf("hole: %d\n", munmap(area + 2 * PAGE, PAGE));
    printf("fixed: %d\n", mmap(area + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area + 2 * PAGE);
    printf("taken: %s\n", result(mmap(area, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
    printf("empty: %s\n", result(mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    printf("odd: %s\n", result(mmap(area + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
    printf("no file: %s\n", result(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, 999, 0)));
    printf("too much: %s\n", result(mmap(0, 1ul << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    printf("unmapped: %d\n", munmap(area + 4 * PAGE, PAGE));
    printf("protect a hole: %d %s\n", mprotect(area + 3 * PAGE, 2 * PAGE, PROT_READ), strerror(errno));
    printf("protect odd: %d %s\n", mprotect(area + 1, PAGE, PROT_READ), strerror(errno));

    char *grown = mremap(area, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    printf("grown: %d %d %d\n", grown != MAP_FAILED, grown[PAGE], grown[63 * PAGE]);
    printf("cannot grow: %s\n", result(mremap(area + 3 * PAGE, PAGE, 4 * PAGE, 0)));
    char *shrunk = mremap(grown, 64 * PAGE, PAGE, 0);
    printf("shrunk: %d\n", shrunk == grown);
    printf("past the end: %d %s\n", msync(grown + PAGE, PAGE, MS_SYNC), strerror(errno));

    char *before = sbrk(0);
    char *heap = sbrk(100000);
    heap[99999] = 3;
    printf("heap: %d %d\n", heap == before, sbrk(-100000) == before + 100000);

    // Code that is written, run, and written again.
    unsigned *code = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    for (unsigned i = 0; i < 200; i++) {
        code[0] = 0x00000513 | i << 20; // li a0, i
        code[1] = 0x00008067;           // ret
        __builtin___clear_cache((char *)code, (char *)(code + 2));
        sum += ((long (*)(void))code)();
    }
    printf("code: %ld\n", sum);
    // The kernel writes over code, too.
    int ends[2];
    if (pipe(ends)) return 1;
    unsigned fresh[2] = {0x06300513, 0x00008067};
    if (write(ends[1], fresh, 8) != 8 || read(ends[0], code, 8) != 8) return 1;
    __builtin___clear_cache((char *)code, (char *)(code + 2));
    printf("code read: %ld\n", ((long (*)(void))code)());

    int file = memfd_create("x", 0);
    if (ftruncate(file, 2 * PAGE)) return 1;
    char *one = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *two = mmap(0, PAGE, PROT_READ, MAP_SHARED, file, PAGE);
    one[PAGE] = 42;
    printf("shared: %d\n", two[0]);
    int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    char *segment = shmat(id, 0, 0);
    if (fork() == 0) {
        segment[2 * PAGE] = 17;
        _exit(0);
    }
    wait(0);
    printf("segment: %d, detached: %d, again: %d\n", segment[2 * PAGE], shmdt(segment), shmdt(segment));
    shmctl(id, IPC_RMID, 0);

    unsigned char resident[8];
    printf("resident: %d %d\n", mincore(code, PAGE, resident), resident[0] & 1);
    printf("advice: %d %d\n", madvise(code, PAGE, MADV_DONTNEED), code[0]);
    printf("bad pointer: %ld %s\n", (long)write(1, (void *)0x10, 5), strerror(errno));
    printf("our memory: %ld %s\n", (long)write(1, (void *)0x7fff00000000, 5), strerror(errno));
    return 0;
}
