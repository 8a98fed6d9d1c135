/* Floating point: Fourier transforms there and back, in single precision. */
#include "bench.h"

enum { N = 4096 };
static float re[N], im[N], wr[N / 2], wi[N / 2];

/* exp(2 pi i k / N) by repeated multiplication in double precision. */
static void twiddles(void)
{
    const double c = 0.99999882345170188, s = 0.0015339801862847656;
    double a = 1, b = 0;
    for (int k = 0; k < N / 2; k++) {
        wr[k] = (float)a;
        wi[k] = (float)b;
        double t = a * c - b * s;
        b = a * s + b * c;
        a = t;
    }
}

static void transform(float sign)
{
    for (int i = 1, j = 0; i < N; i++) {
        int bit = N >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            float t = re[i]; re[i] = re[j]; re[j] = t;
            t = im[i]; im[i] = im[j]; im[j] = t;
        }
    }
    for (int half = 1; half < N; half *= 2)
        for (int k = 0; k < half; k++) {
            float c = wr[k * (N / 2 / half)], s = sign * wi[k * (N / 2 / half)];
            for (int i = k; i < N; i += 2 * half) {
                float x = re[i + half] * c - im[i + half] * s;
                float y = re[i + half] * s + im[i + half] * c;
                re[i + half] = re[i] - x;
                im[i + half] = im[i] - y;
                re[i] += x;
                im[i] += y;
            }
        }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    twiddles();
    for (int i = 0; i < N; i++)
        re[i] = (float)(next() >> 48) / 65536;
    for (int turn = 0; turn < 300; turn++) {
        transform(1);
        transform(-1);
        for (int i = 0; i < N; i++) {
            re[i] /= N;
            im[i] /= N;
        }
    }
    for (int i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, &re[i], 4);
        sum = mix(sum, bits);
    }
    return sum;
}
