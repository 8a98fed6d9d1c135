/* Vectors: lengths of strings, by loads that stop before a fault. */
#include "bench.h"

enum { SIZE = 1 << 15 };
static char text[SIZE];

static __attribute__((noinline)) size_t length(const char *s)
{
    const char *p = s;
    size_t vl;
    long first;
    asm volatile("1: vsetvli %0, zero, e8, m8, ta, ma\n"
                 "vle8ff.v v8, (%1)\n"
                 "csrr %0, vl\n"
                 "vmseq.vi v0, v8, 0\n"
                 "vfirst.m %2, v0\n"
                 "add %1, %1, %0\n"
                 "bltz %2, 1b\n"
                 "add %1, %1, %2\n"
                 "sub %1, %1, %0\n"
                 : "=&r"(vl), "+r"(p), "=&r"(first)::"memory");
    return p - s;
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < SIZE; i++)
        text[i] = 1 + next() % 255;
    text[SIZE - 1] = 0;
    for (int turn = 0; turn < 400; turn++)
        sum = mix(sum, length(text + turn));
    for (int i = 0; i < SIZE; i += 1 + next() % 50)
        text[i] = 0;
    for (int turn = 0; turn < 600000; turn++)
        sum = mix(sum, length(text + next() % SIZE));
    return sum;
}
