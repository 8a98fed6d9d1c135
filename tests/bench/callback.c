/* Calls: the library's sort and search, each comparison through a pointer. */
#include "bench.h"

enum { N = 150000 };
static uint64_t a[N];

static int up(const void *x, const void *y)
{
    uint64_t l = *(const uint64_t *)x, r = *(const uint64_t *)y;
    return l < r ? -1 : l > r;
}

static int by_low_bits(const void *x, const void *y)
{
    uint32_t l = *(const uint32_t *)x, r = *(const uint32_t *)y;
    return l < r ? -1 : l > r;
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int turn = 0; turn < 6; turn++) {
        for (int i = 0; i < N; i++)
            a[i] = next();
        qsort(a, N, sizeof *a, by_low_bits);
        qsort(a, N, sizeof *a, up);
        for (int i = 0; i < N; i++) {
            uint64_t key = i & 1 ? a[i] : next();
            sum += bsearch(&key, a, N, sizeof *a, up) != NULL;
        }
        sum = mix(sum, a[N / 2]);
    }
    return sum;
}
