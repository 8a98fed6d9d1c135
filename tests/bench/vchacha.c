/* Vectors: the rounds of ChaCha20 (RFC 8439) on as many blocks at a time as there are lanes. */
#include "bench.h"

#define ROTATE(v, n) "vsll.vi v16, " v ", " n "\nvsrl.vi " v ", " v ", 32 - " n "\nvor.vv " v ", " v ", v16\n"
#define QUARTER(a, b, c, d)                                                                    \
    "vadd.vv " a ", " a ", " b "\nvxor.vv " d ", " d ", " a "\n" ROTATE(d, "16")               \
    "vadd.vv " c ", " c ", " d "\nvxor.vv " b ", " b ", " c "\n" ROTATE(b, "12")               \
    "vadd.vv " a ", " a ", " b "\nvxor.vv " d ", " d ", " a "\n" ROTATE(d, "8")                \
    "vadd.vv " c ", " c ", " d "\nvxor.vv " b ", " b ", " c "\n" ROTATE(b, "7")

static __attribute__((noinline)) uint32_t blocks(uint32_t seed)
{
    size_t vl, rounds = 10;
    uint32_t out;
    asm volatile("vsetvli %0, zero, e32, m1, ta, ma\n"
                 "vid.v v12\n"
                 "vadd.vx v0, v12, %3\nvmul.vx v1, v0, %3\nvadd.vi v2, v1, 7\nvadd.vv v3, v2, v0\n"
                 "vxor.vx v4, v3, %3\nvadd.vv v5, v4, v1\nvmul.vx v6, v5, %3\nvadd.vi v7, v6, -3\n"
                 "vadd.vv v8, v7, v1\nvxor.vv v9, v8, v3\nvadd.vx v10, v9, %3\nvmul.vv v11, v10, v9\n"
                 "vadd.vv v13, v11, v12\nvxor.vv v14, v13, v5\nvadd.vv v15, v14, v7\n"
                 "1: addi %1, %1, -1\n"
                 QUARTER("v0", "v4", "v8", "v12")
                 QUARTER("v1", "v5", "v9", "v13")
                 QUARTER("v2", "v6", "v10", "v14")
                 QUARTER("v3", "v7", "v11", "v15")
                 QUARTER("v0", "v5", "v10", "v15")
                 QUARTER("v1", "v6", "v11", "v12")
                 QUARTER("v2", "v7", "v8", "v13")
                 QUARTER("v3", "v4", "v9", "v14")
                 "bnez %1, 1b\n"
                 "vxor.vv v0, v0, v15\nvxor.vv v1, v7, v8\nvxor.vv v0, v0, v1\n"
                 "vmv.s.x v1, zero\nvredxor.vs v1, v0, v1\nvmv.x.s %2, v1\n"
                 : "=&r"(vl), "+r"(rounds), "=r"(out)
                 : "r"(seed));
    return out;
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int turn = 0; turn < 300000; turn++)
        sum = mix(sum, blocks(turn * 2654435761u));
    return sum;
}
