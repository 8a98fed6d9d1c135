/* Vectors: sums of products of bytes, in 32 bits. */
#include "bench.h"

enum { N = 5000 };
static int8_t a[N], b[N];

static __attribute__((noinline)) int32_t dot(size_t n, const int8_t *pa, const int8_t *pb)
{
    size_t vl;
    int32_t sum;
    asm volatile("vsetvli %0, zero, e32, m8, ta, ma\n"
                 "vmv.v.i v16, 0\n"
                 "1: vsetvli %0, %1, e8, m2, tu, ma\n"
                 "vle8.v v0, (%2)\n"
                 "sub %1, %1, %0\n"
                 "add %2, %2, %0\n"
                 "vle8.v v2, (%3)\n"
                 "add %3, %3, %0\n"
                 "vwmul.vv v4, v0, v2\n"
                 "vsetvli zero, zero, e16, m4, tu, ma\n"
                 "vwadd.wv v16, v16, v4\n"
                 "bnez %1, 1b\n"
                 "vsetvli %0, zero, e32, m8, ta, ma\n"
                 "vmv.s.x v0, zero\n"
                 "vredsum.vs v0, v16, v0\n"
                 "vmv.x.s %4, v0\n"
                 : "=&r"(vl), "+r"(n), "+r"(pa), "+r"(pb), "=r"(sum)::"memory");
    return sum;
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        a[i] = next();
        b[i] = next();
    }
    for (int turn = 0; turn < 16000; turn++)
        sum = mix(sum, (uint32_t)dot(N - turn % 64, a + turn % 32, b + turn % 64));
    return sum;
}
