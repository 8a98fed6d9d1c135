/* The host's own x87: one record in, one record out. Compiled and run by x87.rs. */
#include <stdint.h>
#include <stdio.h>

struct __attribute__((packed)) record { uint8_t op; uint16_t control; uint8_t a[10], b[10]; };
struct __attribute__((packed)) answer { uint16_t status; uint8_t r[10], s[10]; };

#define START "fninit\nfldcw %2\n"
#define IN "m"(in.control), "m"(in.a), "m"(in.b)
#define OUT "=m"(out.r), "=m"(out.status)
/* a in st(1), b in st; the result in st */
#define TWO(n, insn) case n: __asm__ volatile(START "fldt %3\nfldt %4\nfnclex\n" insn "\nfnstsw %1\nfstpt %0" : OUT : IN : "st", "st(1)"); break;
/* a in st */
#define ONE(n, insn) case n: __asm__ volatile(START "fldt %3\nfnclex\n" insn "\nfnstsw %1\nfstpt %0" : OUT : IN : "st"); break;
/* a in st; two results */
#define PAIR(n, insn) case n: __asm__ volatile(START "fldt %3\nfnclex\n" insn "\nfnstsw %1\nfstpt %0\nfstpt %5" : OUT : IN, "m"(out.s) : "st", "memory"); break;
/* b in st(1), a in st: by its first operand */
#define REMAINDER(n, insn) case n: __asm__ volatile(START "fldt %4\nfldt %3\nfnclex\n1: " insn "\nfnstsw %%ax\ntest $0x400, %%ax\njnz 1b\nmov %%ax, %1\nfstpt %0" : OUT : IN : "st", "ax"); break;
#define SWAPPED(n, insn) case n: __asm__ volatile(START "fldt %4\nfldt %3\nfnclex\n" insn "\nfnstsw %1\nfstpt %0" : OUT : IN : "st"); break;
#define STORE(n, insn) case n: __asm__ volatile(START "fldt %3\nfnclex\n" insn "\nfnstsw %1" : OUT : IN : "st"); break;
#define LOAD(n, insn) case n: __asm__ volatile(START "fnclex\n" insn "\nfnstsw %1\nfstpt %0" : OUT : IN : "st"); break;

int main(void)
{
    struct record in;
    while (fread(&in, sizeof in, 1, stdin) == 1) {
        struct answer out = {0};
        switch (in.op) {
        TWO(0, "faddp") TWO(1, "fsubrp") TWO(2, "fmulp") TWO(3, "fdivrp")
        ONE(4, "fsqrt") REMAINDER(5, "fprem") REMAINDER(6, "fprem1") ONE(7, "frndint")
        SWAPPED(8, "fscale")
        PAIR(9, "fxtract")
        TWO(10, "fcom") TWO(11, "fucom")
        ONE(12, "f2xm1") TWO(13, "fyl2x") TWO(14, "fyl2xp1") TWO(15, "fpatan")
        ONE(16, "fsin") ONE(17, "fcos") PAIR(18, "fptan") PAIR(19, "fsincos")
        STORE(20, "fistps %0") STORE(21, "fistpl %0") STORE(22, "fistpll %0")
        STORE(23, "fstps %0") STORE(24, "fstpl %0") STORE(25, "fbstp %0")
        LOAD(26, "flds %3") LOAD(27, "fldl %3") LOAD(28, "filds %3") LOAD(29, "fildl %3")
        LOAD(30, "fildll %3") LOAD(31, "fbld %3")
        STORE(32, "fisttps %0") STORE(33, "fisttpl %0") STORE(34, "fisttpll %0")
        }
        fwrite(&out, sizeof out, 1, stdout);
    }
    return 0;
}
