/* Integer: heap sort and shell sort of 64-bit numbers, no calls. */
#include "bench.h"

enum { N = 300000 };
static uint64_t a[N];

static void heap_sort(void)
{
    for (int end = N, start = N / 2; end > 1;) {
        uint64_t x;
        if (start > 0) {
            x = a[--start];
        } else {
            x = a[--end];
            a[end] = a[0];
        }
        int at = start;
        for (int child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && a[child + 1] > a[child])
                child++;
            if (a[child] <= x)
                break;
            a[at] = a[child];
        }
        a[at] = x;
    }
}

static void shell_sort(void)
{
    for (int gap = N / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (int i = gap; i < N; i++) {
            uint64_t x = a[i];
            int j = i;
            for (; j >= gap && a[j - gap] > x; j -= gap)
                a[j] = a[j - gap];
            a[j] = x;
        }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int turn = 0; turn < 10; turn++) {
        for (int i = 0; i < N; i++)
            a[i] = next();
        if (turn & 1)
            shell_sort();
        else
            heap_sort();
        for (int i = 1; i < N; i++)
            sum = mix(sum, a[i] + (a[i] < a[i - 1]));
    }
    return sum;
}
