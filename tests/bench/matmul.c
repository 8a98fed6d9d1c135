/* Floating point: products of matrices in double precision. */
#include "bench.h"

enum { N = 160 };
static double a[N][N], b[N][N], c[N][N];

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(next() >> 40) / (1 << 24);
            b[i][j] = (double)(next() >> 40) / (1 << 27);
        }
    for (int turn = 0; turn < 24; turn++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double s = 0;
                for (int l = 0; l < N; l++)
                    s += a[i][l] * b[l][j];
                c[i][j] = s;
            }
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
