/* Calls: plain recursion, down and up again. */
#include "bench.h"

static __attribute__((noinline, noclone)) uint64_t fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static __attribute__((noinline, noclone)) unsigned ackermann(unsigned m, unsigned n)
{
    if (!m)
        return n + 1;
    unsigned inner = n ? ackermann(m, n - 1) : 1;
    return ackermann(m - 1, inner);
}

static uint64_t work(void)
{
    volatile unsigned n = 36, m = 2;
    uint64_t sum = fib(n);
    for (unsigned i = 0; i < 60; i++)
        sum = mix(sum, ackermann(m, 400 + i));
    return sum;
}
