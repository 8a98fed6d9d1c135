/* Integer: a small interpreter: one indirect jump per operation. */
#include "bench.h"

enum op { PUSH, ADD, SUB, MUL, XOR, SHR, DUP, SWAP, LOAD, STORE, JNZ, HALT };

/* for (n = 700000; n; n--) { x = x * 31 + n; y ^= x >> 5; } */
static const int32_t program[] = {
    PUSH, 700000, STORE, 0, PUSH, 1, STORE, 1, PUSH, 7, STORE, 2,
    LOAD, 1, PUSH, 31, MUL, LOAD, 0, ADD, DUP, STORE, 1,
    PUSH, 5, SHR, LOAD, 2, SWAP, XOR, STORE, 2,
    LOAD, 0, PUSH, 1, SUB, DUP, STORE, 0, JNZ, 12, HALT,
};

static uint64_t run(void)
{
    uint32_t stack[16], cell[4] = {0}, *top = stack;
    for (const int32_t *at = program;;) {
        switch ((enum op)*at++) {
        case PUSH: *top++ = (uint32_t)*at++; break;
        case ADD: top--; top[-1] += *top; break;
        case SUB: top--; top[-1] -= *top; break;
        case MUL: top--; top[-1] *= *top; break;
        case XOR: top--; top[-1] ^= *top; break;
        case SHR: top--; top[-1] >>= *top; break;
        case DUP: *top = top[-1]; top++; break;
        case SWAP: { uint32_t x = top[-1]; top[-1] = top[-2]; top[-2] = x; break; }
        case LOAD: *top++ = cell[*at++]; break;
        case STORE: cell[*at++] = *--top; break;
        case JNZ: at = *--top ? program + *at : at + 1; break;
        case HALT: return (uint64_t)cell[1] << 32 | cell[2];
        }
    }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int turn = 0; turn < 6; turn++)
        sum = mix(sum, run());
    return sum;
}
