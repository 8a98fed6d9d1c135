/* Vectors of x86: sums of products of bytes, and of floats. */
#include "bench.h"
#include <immintrin.h>

enum { N = 8192 };
static int8_t a[N], b[N];
static float x[N], y[N];

static __attribute__((noinline)) int32_t bytes(void)
{
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < N; i += 16) {
        __m256i p = _mm256_cvtepi8_epi16(_mm_loadu_si128((__m128i *)(a + i)));
        __m256i q = _mm256_cvtepi8_epi16(_mm_loadu_si128((__m128i *)(b + i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(p, q));
    }
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 1);
}

static __attribute__((noinline)) float floats(void)
{
    __m256 sums[4] = { 0 };
    for (int i = 0; i < N; i += 32)
        for (int j = 0; j < 4; j++)
            sums[j] = _mm256_fmadd_ps(_mm256_loadu_ps(x + i + 8 * j), _mm256_loadu_ps(y + i + 8 * j),
                                      sums[j]);
    __m256 sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    __m128 half = _mm256_castps256_ps128(sum) + _mm256_extractf128_ps(sum, 1);
    return half[0] + half[1] + half[2] + half[3];
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        uint64_t r = next();
        a[i] = r;
        b[i] = r >> 8;
        x[i] = (float)(r >> 40) / 4096;
        y[i] = (float)(r >> 44 & 0xffff) / 4096;
    }
    for (int turn = 0; turn < 40000; turn++) {
        float f = floats();
        uint32_t bits;
        memcpy(&bits, &f, 4);
        sum = mix(mix(sum, bytes()), bits);
        a[turn % N]++;
        x[turn % N] += 1;
    }
    return sum;
}
