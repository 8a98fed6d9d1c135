/* Integer: following pointers through 4 MiB in no order. */
#include "bench.h"

enum { N = 1 << 16 };
struct node { struct node *to; uint64_t value; uint64_t pad[6]; };
static struct node nodes[N];

static uint64_t work(void)
{
    static uint32_t order[N];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < N; i++)
        order[i] = i;
    for (uint32_t i = N - 1; i > 0; i--) {
        uint32_t j = next() % (i + 1), x = order[i];
        order[i] = order[j];
        order[j] = x;
    }
    for (uint32_t i = 0; i < N; i++) {
        nodes[order[i]].to = &nodes[order[(i + 1) % N]];
        nodes[order[i]].value = next();
    }
    struct node *at = nodes;
    for (int i = 0; i < 10000000; i++) {
        sum += at->value ^ i;
        at = at->to;
    }
    return sum;
}
