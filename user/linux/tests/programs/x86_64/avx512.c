/* x86-64-v4: loops that the compiler makes vectors of, intrinsics, registers across a signal. */
#include <immintrin.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define N 1003

static uint8_t bytes[N], more[N];
static int16_t halves[N];
static int32_t words[N], others[N];
static int64_t longs[N];
static float singles[N];
static double doubles[N];

static uint64_t sum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

#define SHOW(name, what) printf("%-12s %016lx\n", name, sum(what, sizeof what))

static void fill(void)
{
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < N; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (uint8_t)x;
        more[i] = (uint8_t)(x >> 8);
        halves[i] = (int16_t)(x >> 16);
        words[i] = (int32_t)(x >> 20);
        others[i] = (int32_t)(x >> 32);
        longs[i] = (int64_t)x;
        singles[i] = (float)(int32_t)x / 65536;
        doubles[i] = (double)(int64_t)x / 4294967296;
    }
}

__attribute__((noinline)) static void integers(void)
{
    for (int i = 0; i < N; i++)
        words[i] = others[i] > 0 ? words[i] * 3 + others[i] : words[i] ^ others[i];
    SHOW("words", words);
    for (int i = 0; i < N; i++)
        bytes[i] = more[i] > 100 ? bytes[i] + more[i] : bytes[i] >> 1;
    SHOW("bytes", bytes);
    for (int i = 0; i < N; i++)
        longs[i] = (longs[i] < 0 ? -longs[i] : longs[i]) * words[i] >> 3;
    SHOW("longs", longs);
    for (int i = 0; i < N; i++)
        halves[i] = (int16_t)(halves[i] * bytes[i]);
    SHOW("halves", halves);
    long total = 0;
    for (int i = 0; i < N; i++)
        total += __builtin_popcountll((uint64_t)longs[i]) + __builtin_clzll((uint64_t)longs[i] | 1);
    printf("%-12s %ld\n", "bits", total);
}

__attribute__((noinline)) static void floats(void)
{
    for (int i = 0; i < N; i++)
        singles[i] = singles[i] > 0 ? sqrtf(singles[i]) : singles[i] * 2 + 1;
    SHOW("singles", singles);
    for (int i = 0; i < N; i++)
        doubles[i] = doubles[i] / (fabs(doubles[i]) + 1) + (double)longs[i];
    SHOW("doubles", doubles);
    for (int i = 0; i < N; i++)
        longs[i] += (int64_t)(singles[i] * 8) + (int64_t)(uint64_t)fabsf(singles[i]);
    SHOW("converted", longs);
    for (int i = 0; i < N; i++)
        doubles[i] = floor(doubles[i] / 3) + (double)(uint32_t)words[i];
    SHOW("floors", doubles);
}

__attribute__((noinline)) static void gathers(void)
{
    static int32_t out[N];
    for (int i = 0; i < N; i++)
        out[i] = words[(uint32_t)others[i] % N];
    SHOW("gathered", out);
    for (int i = 0; i < N; i++)
        if (others[i] & 1)
            out[(i * 7) % N] = words[i];
    SHOW("scattered", out);
}

__attribute__((noinline)) static void intrinsics(void)
{
    static int32_t out[N + 16];
    int n = 0;
    for (int i = 0; i + 16 <= N; i += 16) {
        __m512i v = _mm512_loadu_si512(words + i);
        __mmask16 m = _mm512_cmpgt_epi32_mask(v, _mm512_set1_epi32(1000));
        _mm512_mask_compressstoreu_epi32(out + n, m, v);
        n += __builtin_popcount(m);
    }
    printf("%-12s %d %016lx\n", "compressed", n, sum(out, sizeof *out * (size_t)n));
    __m512i a = _mm512_loadu_si512(words), b = _mm512_loadu_si512(others);
    __m512i r[12];
    memset(r, 0, sizeof r);
    r[0] = _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi32(0x0ff0f00f), 0xca);
    r[1] = _mm512_permutex2var_epi32(a, _mm512_srli_epi32(b, 20), b);
    r[2] = _mm512_maskz_expand_epi32(0x5a5a, a);
    r[3] = _mm512_alignr_epi32(a, b, 5);
    r[4] = _mm512_shuffle_i64x2(a, b, 0x4e);
    r[5] = _mm512_rolv_epi32(a, b);
    r[6] = _mm512_conflict_epi32(_mm512_and_si512(a, _mm512_set1_epi32(7)));
    r[7] = _mm512_castps_si512(_mm512_add_round_ps(_mm512_cvtepi32_ps(a), _mm512_cvtepu32_ps(b),
                                                   _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
    r[8] = _mm512_mask_mullo_epi64(a, 0x35, a, b);
    r[9] = _mm512_maskz_packs_epi32(0x0123456789abcdef, a, b);
    r[10] = _mm512_castpd_si512(_mm512_getexp_pd(_mm512_castsi512_pd(a)));
    r[11] = _mm512_castps_si512(_mm512_roundscale_ps(_mm512_cvtepi32_ps(b), 0x21));
    for (int i = 0; i < 12; i++)
        printf("%-12s %016lx\n", "vector", sum(r + i, 64));
    __mmask64 m = _mm512_cmple_epu8_mask(a, b);
    __mmask64 k = _kxor_mask64(_kshiftli_mask64(m, 9), _knot_mask64(m));
    printf("%-12s %016lx %d %d\n", "masks", (uint64_t)k, _kortestz_mask64_u8(m, k),
           _ktestc_mask64_u8(m, k));
    printf("%-12s %d\n", "reduced", _mm512_reduce_add_epi32(a));
}

static void handler(int number)
{
    (void)number;
    __asm__ volatile("vpxorq %%zmm17,%%zmm17,%%zmm17\n\tvpternlogd $255,%%zmm3,%%zmm3,%%zmm3\n\t"
                     "kxorq %%k3,%%k3,%%k3" ::: "xmm3", "xmm17", "k3");
}

__attribute__((noinline)) static void signals(void)
{
    uint64_t before[8], low[8], high[8], mask = 0x123456789abcdef0u, after;
    for (int i = 0; i < 8; i++)
        before[i] = (uint64_t)longs[i];
    __asm__ volatile("vmovdqu64 %[from],%%zmm17\n\tvmovdqu64 %[from],%%zmm3\n\tkmovq %[mask],%%k3\n\t"
                     "movl $39,%%eax\n\tsyscall\n\tmovl %%eax,%%edi\n\tmovl $10,%%esi\n\t"
                     "movl $62,%%eax\n\tsyscall\n\t"
                     "vmovdqu64 %%zmm17,%[high]\n\tvmovdqu64 %%zmm3,%[low]\n\tkmovq %%k3,%[after]"
                     : [high] "=m"(high), [low] "=m"(low), [after] "=m"(after)
                     : [from] "m"(before), [mask] "m"(mask)
                     : "rax", "rdi", "rsi", "rcx", "r11", "xmm3", "xmm17", "k3", "memory");
    printf("%-12s %d %d %d\n", "signals", !memcmp(before, low, 64), !memcmp(before, high, 64),
           mask == after);
}

int main(void)
{
    fill();
    integers();
    floats();
    gathers();
    intrinsics();
    signal(SIGUSR1, handler);
    signals();
    return 0;
}
