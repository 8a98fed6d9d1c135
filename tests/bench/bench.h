/* What every program of the benchmark shares: it does a fixed amount of work,
 * and prints how long that took by the guest's clock, and a checksum. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The work, given by each program: returns a checksum of all it computed. */
static uint64_t work(void);

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* A pseudo-random sequence (Marsaglia, "Xorshift RNGs", 2003). */
static uint64_t state = 88172645463325252u;

static inline uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x100000001b3u;
}

#ifndef OWN_MAIN
int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    double start = now_ms();
    uint64_t sum = work();
    printf("BENCH %s %.3f %016llx\n", name ? name + 1 : argv[0], now_ms() - start,
           (unsigned long long)sum);
    return argc > 1;
}
#endif
