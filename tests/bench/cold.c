/* Translation: a million instructions, each of which runs once. */
#include "bench.h"

static uint64_t work(void)
{
    uint64_t a = 1, b = 2;
    __asm__ volatile(".option push\n.option norvc\n"
                     ".rept 125000\n"
                     "add %0, %0, %1\n"
                     "xori %1, %1, 0x55\n"
                     "slli t0, %0, 3\n"
                     "sub %1, %1, t0\n"
                     "srli t1, %1, 7\n"
                     "or %0, %0, t1\n"
                     "bnez t1, 1f\n"
                     "1: addi %0, %0, 1\n"
                     ".endr\n.option pop\n"
                     : "+r"(a), "+r"(b)
                     :
                     : "t0", "t1");
    return mix(a, b);
}
