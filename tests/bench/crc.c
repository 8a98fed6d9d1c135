/* Integer: a checksum bit by bit, with nothing but dependent choices. */
#include "bench.h"

enum { SIZE = 1 << 16 };
static uint8_t data[SIZE];

static uint64_t work(void)
{
    uint32_t crc = ~0u;
    for (int i = 0; i < SIZE; i++)
        data[i] = next();
    for (int turn = 0; turn < 100; turn++)
        for (int i = 0; i < SIZE; i++) {
            crc ^= data[i];
            for (int bit = 0; bit < 8; bit++)
                crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        }
    return crc;
}
