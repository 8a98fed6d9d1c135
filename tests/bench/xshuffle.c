/* Vectors of x86: bytes in hexadecimal digits, by tables in registers. */
#include "bench.h"
#include <immintrin.h>

enum { N = 1 << 14 };
static uint8_t from[N];
static char to[2 * N];

static __attribute__((noinline)) void digits(void)
{
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((__m128i *)"0123456789abcdef"));
    __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < N; i += 32) {
        __m256i v = _mm256_loadu_si256((__m256i *)(from + i));
        __m256i h = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
        __m256i l = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
        __m256i even = _mm256_unpacklo_epi8(h, l), odd = _mm256_unpackhi_epi8(h, l);
        _mm256_storeu_si256((__m256i *)(to + 2 * i), _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_storeu_si256((__m256i *)(to + 2 * i + 32), _mm256_permute2x128_si256(even, odd, 0x31));
    }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < N; i++)
        from[i] = next();
    for (int turn = 0; turn < 40000; turn++) {
        digits();
        sum = mix(sum, to[next() % (2 * N)]);
        from[turn % N]++;
    }
    return sum;
}
