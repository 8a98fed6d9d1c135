/* Scaling: the same work in one process, then in two at once. */
#define OWN_MAIN
#include "bench.h"
#include <sys/wait.h>
#include <unistd.h>

static uint64_t work(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 300000000; i++)
        sum = mix(sum, next());
    return sum;
}

static double together(int processes)
{
    double start = now_ms();
    for (int i = 0; i < processes; i++)
        if (!fork())
            _exit(work() == 0);
    while (wait(NULL) > 0)
        ;
    return now_ms() - start;
}

int main(void)
{
    double one = together(1), two = together(2);
    printf("BENCH one-process %.3f %016x\n", one, 0);
    printf("BENCH two-processes %.3f %016x\n", two, 0);
    return 0;
}
