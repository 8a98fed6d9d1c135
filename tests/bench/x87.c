/* The x87: products of matrices in extended precision, and a series. */
#include "bench.h"

enum { N = 64 };
static long double a[N][N], b[N][N], c[N][N];

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (long double)(next() >> 40) / 3;
            b[i][j] = (long double)(next() >> 40) / 7;
        }
    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                long double product = 0;
                for (int k = 0; k < N; k++)
                    product += a[i][k] * b[k][j];
                c[i][j] = product;
            }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double rounded = c[i][j];
                uint64_t bits;
                memcpy(&bits, &rounded, 8);
                sum = mix(sum, bits);
                if (c[i][j] > a[j][i])
                    a[i][j] -= 0.5L;
            }
        long double series = 0;
        for (int i = 1; i < 20000; i++)
            series += 1 / ((long double)i * i);
        sum = mix(sum, (uint64_t)(series * 1e15L));
    }
    return sum;
}
