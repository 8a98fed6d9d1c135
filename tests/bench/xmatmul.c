/* Vectors of x86: products of matrices in double precision. */
#include "bench.h"
#include <immintrin.h>

enum { N = 128 };
static double a[N][N], b[N][N], c[N][N];

static __attribute__((noinline)) void multiply(void)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j += 16) {
            __m256d sum[4] = { 0 };
            for (int k = 0; k < N; k++) {
                __m256d factor = _mm256_broadcast_sd(&a[i][k]);
                for (int n = 0; n < 4; n++)
                    sum[n] = _mm256_fmadd_pd(factor, _mm256_loadu_pd(&b[k][j + 4 * n]), sum[n]);
            }
            for (int n = 0; n < 4; n++)
                _mm256_storeu_pd(&c[i][j + 4 * n], sum[n]);
        }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(next() >> 40);
            b[i][j] = (double)(next() >> 40);
        }
    for (int turn = 0; turn < 300; turn++) {
        multiply();
        sum = mix(sum, (uint64_t)c[turn % N][turn * 7 % N]);
        a[turn % N][turn * 3 % N] += 1;
    }
    return sum;
}
