/* Integer: SHA-256 (FIPS 180-4) over 8 MiB. */
#include "bench.h"

static uint32_t k[64], first[8];

/* The first 32 bits of the fractional part of a root of a prime. */
static uint32_t root_bits(unsigned prime, int cube)
{
    /* largest x with x^2 or x^3 <= prime * 2^64 or 2^96, found bit by bit */
    unsigned __int128 x = 0;
    for (int bit = 34; bit >= 0; bit--) {
        unsigned __int128 y = x | (unsigned __int128)1 << bit;
        unsigned __int128 power = cube ? y * y * y : y * y;
        if (power <= (unsigned __int128)prime << (cube ? 96 : 64))
            x = y;
    }
    return (uint32_t)x;
}

static void constants(void)
{
    int count = 0;
    for (unsigned n = 2; count < 64; n++) {
        int prime = 1;
        for (unsigned d = 2; d * d <= n; d++)
            prime &= n % d != 0;
        if (!prime)
            continue;
        k[count] = root_bits(n, 1);
        if (count < 8)
            first[count] = root_bits(n, 0);
        count++;
    }
}

static inline uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void block(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
        uint32_t s0 = ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

static uint64_t work(void)
{
    static uint8_t data[64 * 1024];
    uint32_t h[8];
    constants();
    memcpy(h, first, sizeof h);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)next();
    for (int turn = 0; turn < 128; turn++)
        for (size_t i = 0; i < sizeof data; i += 64)
            block(h, data + i);
    return (uint64_t)h[0] << 32 | h[7];
}
