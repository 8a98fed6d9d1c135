/* Memory: the C library's copies, short and long, overlapping or not, and its searches. */
#include "bench.h"

enum { SIZE = 1 << 20 };
static char data[SIZE + 4096], text[SIZE + 1];

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < SIZE; i++) {
        data[i] = next();
        text[i] = 'a' + i % 26;
    }
    for (int turn = 0; turn < 3000000; turn++) {
        uint64_t r = next();
        size_t length = r % 200, at = (r >> 8) % 100000;
        memmove(data + at + (r >> 40 & 63), data + at, length);
        sum = mix(sum, data[at + 5]);
    }
    for (int turn = 0; turn < 4000; turn++) {
        memcpy(data + SIZE / 2 + turn, data + turn, SIZE / 4);
        memset(data + SIZE / 4, turn, 10000);
        sum = mix(sum, data[SIZE / 2 + turn * 7]);
    }
    for (int turn = 0; turn < 1500; turn++) {
        text[SIZE / 8 + turn] = '!';
        sum = mix(sum, strlen(text + turn) + (strchr(text + turn, '!') - text));
        sum = mix(sum, (char *)memchr(text, '!', SIZE) - text);
        sum = mix(sum, strcmp(text + 26, text + 52) > 0);
        text[SIZE / 8 + turn] = 'x';
    }
    return sum;
}
