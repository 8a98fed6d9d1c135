/* Integer: building, splitting, searching and counting words of text. */
#include "bench.h"

enum { SIZE = 1 << 20, SLOTS = 1 << 14 };
static char text[SIZE + 1];
static struct { char word[16]; uint32_t count; } table[SLOTS];

static void write_text(void)
{
    int at = 0;
    while (at < SIZE - 16) {
        uint64_t r = next();
        /* few distinct words, so that they repeat */
        uint32_t word = (uint32_t)(r >> 8) % 3000, seed = word * 2654435761u;
        int length = 2 + word % 8;
        for (int i = 0; i < length; i++, seed = seed * 1664525 + 1013904223)
            text[at++] = 'a' + (seed >> 24) % 26;
        text[at++] = r >> 60 ? ' ' : '\n';
    }
    text[at] = 0;
}

static void count(const char *word, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)word[i]) * 16777619u;
    for (uint32_t at = hash;; at++) {
        uint32_t slot = at % SLOTS;
        if (!table[slot].count)
            memcpy(table[slot].word, word, length);
        if (!strncmp(table[slot].word, word, length) && !table[slot].word[length]) {
            table[slot].count++;
            return;
        }
    }
}

static uint64_t work(void)
{
    uint64_t sum = 0;
    write_text();
    for (int turn = 0; turn < 32; turn++) {
        for (const char *at = text; *at;) {
            size_t length = strcspn(at, " \n");
            count(at, length);
            at += length + (at[length] != 0);
        }
        for (const char *at = text; (at = strstr(at, "ab")); at++)
            sum++;
        sum = mix(sum, strlen(text));
    }
    for (int i = 0; i < SLOTS; i++)
        sum = mix(sum, table[i].count);
    return sum;
}
