/* Integer: products of matrices of 32-bit numbers. */
#include "bench.h"

enum { N = 192 };
static uint32_t a[N][N], b[N][N], c[N][N];

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (uint32_t)next();
            b[i][j] = (uint32_t)next();
        }
    for (int turn = 0; turn < 64; turn++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                uint32_t s = 0;
                for (int l = 0; l < N; l++)
                    s += a[i][l] * b[l][j];
                c[i][j] = s;
            }
        memcpy(a, c, sizeof a);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            sum = mix(sum, c[i][j]);
    return sum;
}
