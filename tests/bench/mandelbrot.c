/* Floating point: points of the Mandelbrot set, in double precision. */
#include "bench.h"

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int py = 0; py < 320; py++)
        for (int px = 0; px < 320; px++) {
            double cx = -2.0 + px * (2.7 / 320), cy = -1.3 + py * (2.6 / 320);
            double a = 0, b = 0;
            int n = 0;
            while (n < 1000 && a * a + b * b < 4) {
                double t = a * a - b * b + cx;
                b = 2 * a * b + cy;
                a = t;
                n++;
            }
            sum = mix(sum, n);
        }
    return sum;
}
