/* Floating point: five bodies that attract each other, in double precision. */
#include "bench.h"
#include <math.h>

enum { N = 5 };
static double x[N][3], v[N][3], m[N];

static void step(double dt)
{
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++) {
            double d[3], r2 = 1e-3;
            for (int c = 0; c < 3; c++) {
                d[c] = x[i][c] - x[j][c];
                r2 += d[c] * d[c];
            }
            double pull = dt / (r2 * sqrt(r2));
            for (int c = 0; c < 3; c++) {
                v[i][c] -= d[c] * m[j] * pull;
                v[j][c] += d[c] * m[i] * pull;
            }
        }
    for (int i = 0; i < N; i++)
        for (int c = 0; c < 3; c++)
            x[i][c] += dt * v[i][c];
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        m[i] = 1.0 + i;
        for (int c = 0; c < 3; c++) {
            x[i][c] = (double)(next() >> 40) / (1 << 22) - 2;
            v[i][c] = (double)(next() >> 40) / (1 << 25) - 0.25;
        }
    }
    for (int i = 0; i < 500000; i++)
        step(0.001);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < 3; c++) {
            uint64_t bits;
            memcpy(&bits, &x[i][c], 8);
            sum = mix(sum, bits);
        }
    return sum;
}
