/* Calls: a tree of objects, allocated, visited through tables of methods, freed. */
#include "bench.h"

struct node;
struct methods {
    uint64_t (*value)(const struct node *);
    void (*drop)(struct node *);
};
struct node { const struct methods *methods; struct node *left, *right; uint64_t leaf; };

static uint64_t value(const struct node *n) { return n->methods->value(n); }

static uint64_t leaf_value(const struct node *n) { return n->leaf; }
static uint64_t sum_value(const struct node *n) { return value(n->left) + value(n->right); }
static uint64_t xor_value(const struct node *n) { return value(n->left) ^ 3 * value(n->right); }
static void leaf_drop(struct node *n) { free(n); }

static void pair_drop(struct node *n)
{
    n->left->methods->drop(n->left);
    n->right->methods->drop(n->right);
    free(n);
}

static const struct methods leaf = {leaf_value, leaf_drop};
static const struct methods kinds[] = {{sum_value, pair_drop}, {xor_value, pair_drop}};

static struct node *grow(int depth)
{
    struct node *n = malloc(sizeof *n);
    if (!n)
        abort();
    if (!depth) {
        n->methods = &leaf;
        n->leaf = next();
        return n;
    }
    n->methods = &kinds[next() >> 20 & 1];
    n->left = grow(depth - 1);
    n->right = grow(depth - 1);
    return n;
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int turn = 0; turn < 16; turn++) {
        struct node *root = grow(15);
        for (int i = 0; i < 12; i++)
            sum = mix(sum, value(root));
        root->methods->drop(root);
    }
    return sum;
}
