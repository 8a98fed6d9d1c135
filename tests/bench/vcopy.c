/* Vectors: memcpy as the vector specification's example has it, long and short. */
#include "bench.h"

enum { SIZE = 1 << 16 };
static uint8_t from[SIZE + 64], to[SIZE + 64];

static __attribute__((noinline)) void copy(void *d, const void *s, size_t n)
{
    size_t vl;
    asm volatile("1: vsetvli %0, %3, e8, m8, ta, ma\n"
                 "vle8.v v0, (%2)\n"
                 "add %2, %2, %0\n"
                 "sub %3, %3, %0\n"
                 "vse8.v v0, (%1)\n"
                 "add %1, %1, %0\n"
                 "bnez %3, 1b\n"
                 : "=&r"(vl), "+r"(d), "+r"(s), "+r"(n)::"memory");
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < SIZE; i++)
        from[i] = next();
    for (int turn = 0; turn < 8000; turn++) {
        copy(to + turn % 64, from + turn % 16, SIZE - 64);
        sum = mix(sum, to[next() % SIZE]);
    }
    for (int turn = 0; turn < 1500000; turn++) {
        copy(to + turn % 4096, from + turn * 7 % 4096, 1 + turn % 48);
        sum = mix(sum, to[turn % 4096]);
    }
    return sum;
}
