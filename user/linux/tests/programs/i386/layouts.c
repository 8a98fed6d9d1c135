/* i386 without a C library: structures that 64-bit programs have otherwise. */
#include "calls.h"

/* Nobody may look at the padding of times, nor write behind older ones. */
static void times_here(void)
{
    int with_padding[4] = {0, 0, 1000, 0x7ead};
    tell("sleep", call(407, 1, 0, (long)with_padding, 0));
    int old[4] = {0, 1000, -1, -1};
    tell("nanosleep", call(162, (long)old, 0, 0, 0));
    int now[4] = {0, 0, 77, 0};
    tell("clock", call(265, 0, (long)now, 0, 0) == 0 && now[0] > 0 && now[2] == 77);
    int zone[2] = {-1, -1};
    tell("day", call(78, (long)now, (long)zone, 0, 0) == 0 && now[1] < 1000000 && now[2] == 77);
    int ticks[5] = {-1, -1, -1, -1, 77};
    tell("ticks", call(43, (long)ticks, 0, 0, 0) > 0 && ticks[3] == 0 && ticks[4] == 77);
}

static void locks(void)
{
    long file = call(356, (long)"x", 0, 0, 0);
    /* type, whence; start and length of 64 bits without padding before them; process. */
    struct __attribute__((packed)) {
        short type, whence;
        long long start, len;
        int process;
    } lock = {1, 0, 5, 3, -1};
    tell("lock", call(221, file, 13, (long)&lock, 0));
    tell("unlocked", call(221, file, 12, (long)&lock, 0) == 0 && lock.type == 2 && lock.len == 3);
    struct {
        short type, whence;
        int start, len, process;
    } old = {1, 0, 5, 3, -1};
    tell("old lock", call(55, file, 6, (long)&old, 0));
    /* What a call does not use may be anything. */
    int word = 0;
    tell("wake", call_of_5(240, (long)&word, 1 | 128, 1, -4, -4096));
}

/* The end of a process frees its locks, whose place may lie before their links. */
static void robust(void)
{
    struct {
        int lock, gap;
        void *link;
        void *head[3];
    } *shared = (void *)call_of_5(192, 0, 4096, 3, 0x21, -1);
    long child = call(2, 0, 0, 0, 0);
    if (child == 0) {
        shared->lock = call(224, 0, 0, 0, 0);
        shared->link = shared->head;
        shared->head[0] = &shared->link;
        shared->head[1] = (void *)-8;
        call(311, (long)shared->head, 12, 0, 0);
        call(1, 0, 0, 0, 0);
    }
    call(114, child, 0, 0, 0);
    tell("robust", shared->lock == 0x40000000);
}

static void ipc(void)
{
    int value = 5;
    long set = call(117, 2, 0, 1, 0x3ff);
    tell("semaphore", call_of_5(117, 3, set, 0, 16 | 256, (long)&value));
    tell("value", call_of_5(117, 3, set, 0, 12 | 256, (long)&value));
    tell("removed", call_of_5(117, 3, set, 0, 0 | 256, (long)&value));
}

int main_here(void)
{
    times_here();
    locks();
    robust();
    ipc();
    return 0;
}
