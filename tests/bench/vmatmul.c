/* Vectors: products of matrices in double precision, a row at a time. */
#include "bench.h"

enum { N = 120 };
static double a[N][N], b[N][N], c[N][N];

static __attribute__((noinline)) void row(size_t n, const double *pa, const double *pb, double *pc)
{
    while (n > 0) {
        size_t vl, inner = N;
        const double *x = pa, *y = pb;
        double s;
        asm volatile("vsetvli %0, %5, e64, m4, ta, ma\n"
                     "vmv.v.i v8, 0\n"
                     "1: fld %4, 0(%2)\n"
                     "vle64.v v0, (%3)\n"
                     "addi %1, %1, -1\n"
                     "addi %2, %2, 8\n"
                     "add %3, %3, %6\n"
                     "vfmacc.vf v8, %4, v0\n"
                     "bnez %1, 1b\n"
                     "vse64.v v8, (%7)\n"
                     : "=&r"(vl), "+r"(inner), "+r"(x), "+r"(y), "=&f"(s)
                     : "r"(n), "r"(sizeof *b), "r"(pc)
                     : "memory");
        n -= vl;
        pb += vl;
        pc += vl;
    }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(next() >> 40) / (1 << 24);
            b[i][j] = (double)(next() >> 40) / (1 << 27);
        }
    for (int turn = 0; turn < 36; turn++) {
        for (int i = 0; i < N; i++)
            row(N, a[i], b[0], c[i]);
        memcpy(a, c, sizeof a);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            uint64_t bits;
            memcpy(&bits, &c[i][j], 8);
            sum = mix(sum, bits);
        }
    return sum;
}
