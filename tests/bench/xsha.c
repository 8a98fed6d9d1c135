/* SHA-256 by the processor's own instructions. */
#include "bench.h"
#include <immintrin.h>

enum { SIZE = 1 << 16 };
static uint32_t constants[64];
static uint8_t data[SIZE];

/* The state in the order of the instructions; the constants are random, which takes as long. */
static void block(__m128i state[2], const uint8_t *from)
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = state[0], high = state[1], w[4];
    for (int i = 0; i < 4; i++)
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((__m128i *)(from + 16 * i)), order);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        __m128i sum = _mm_add_epi32(w[i & 3], _mm_loadu_si128((__m128i *)(constants + 4 * i)));
        high = _mm_sha256rnds2_epu32(high, low, sum);
        low = _mm_sha256rnds2_epu32(low, high, _mm_shuffle_epi32(sum, 14));
        if (i < 12) {
            __m128i next = _mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]);
            next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
            w[i & 3] = _mm_sha256msg2_epu32(next, w[(i + 3) & 3]);
        }
    }
    state[0] = _mm_add_epi32(state[0], low);
    state[1] = _mm_add_epi32(state[1], high);
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    __m128i state[2] = { { 1, 2 }, { 3, 4 } };
    for (int i = 0; i < 64; i++)
        constants[i] = next();
    for (int i = 0; i < SIZE; i++)
        data[i] = next();
    for (int turn = 0; turn < 100; turn++)
        for (int i = 0; i < SIZE; i += 64)
            block(state, data + i);
    for (int i = 0; i < 4; i++)
        sum = mix(sum, state[i / 2][i % 2]);
    return sum;
}
