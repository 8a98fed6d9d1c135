/* Vectors: y += a x in single precision. */
#include "bench.h"

enum { N = 4000 };
static float x[N], y[N];

static __attribute__((noinline)) void saxpy(size_t n, float a, const float *px, float *py)
{
    size_t vl;
    asm volatile("1: vsetvli %0, %1, e32, m8, ta, ma\n"
                 "vle32.v v0, (%2)\n"
                 "sub %1, %1, %0\n"
                 "sh2add %2, %0, %2\n"
                 "vle32.v v8, (%3)\n"
                 "vfmacc.vf v8, %4, v0\n"
                 "vse32.v v8, (%3)\n"
                 "sh2add %3, %0, %3\n"
                 "bnez %1, 1b\n"
                 : "=&r"(vl), "+r"(n), "+r"(px), "+r"(py)
                 : "f"(a)
                 : "memory");
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (next() >> 40) / 1e5f;
        y[i] = (next() >> 40) / 1e6f;
    }
    for (int turn = 0; turn < 12000; turn++)
        saxpy(N - turn % 7, (turn % 9 - 4) / 64.0f, x, y);
    for (int i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, &y[i], 4);
        sum = mix(sum, bits);
    }
    return sum;
}
