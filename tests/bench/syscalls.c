/* System calls that do next to nothing, one after the other. */
#include "bench.h"
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 2000000; i++)
        sum += syscall(SYS_getppid) != 0;
    return sum;
}
