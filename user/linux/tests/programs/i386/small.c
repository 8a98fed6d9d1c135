/* i386 without a C library: what the tests of the personality look at. */
#include "calls.h"

struct action {
    void *handler;
    word flags;
    void *restorer;
    word mask[2];
};

void back_old(void);
void back_new(void);
__asm__("back_old: pop %eax; mov $119, %eax; int $0x80\n"
        "back_new: mov $173, %eax; int $0x80\n");

static void old_style(int signal)
{
    tell("old", signal);
}

static void new_style(int signal, int *info, void *context)
{
    tell(info[0] == signal && context ? "new" : "bad", signal);
}

/* Goes on behind the two bytes of the instruction that faulted. */
static void fault(int signal, int *info, char *context)
{
    tell(info[3] == 0x10 ? "fault" : "bad", signal);
    *(word *)(context + 20 + 56) += 2;
}

static void handle(int signal, void *handler, word flags, void *restorer)
{
    struct action new = {handler, flags | 0x04000000, restorer, {0, 0}};
    call(174, signal, (long)&new, 0, 8);
}

int main_here(void)
{
    static int storage[2] = {41, 42};
    unsigned area[4] = {-1u, (unsigned)(word)storage, 0xfffff, 0x51};
    int value;
    text("hello\n");
    handle(10, old_style, 0, back_old);
    handle(12, new_style, 4, back_new);
    handle(11, fault, 4, back_new);
    long me = call(20, 0, 0, 0, 0);
    call(37, me, 10, 0, 0);
    call(37, me, 12, 0, 0);
    call(243, (long)area, 0, 0, 0);
    __asm__ volatile("mov %w1, %%gs\n\tmov %%gs:4, %0" : "=r"(value) : "r"(area[0] * 8 + 3));
    tell("thread", value);
    __asm__ volatile("mov (%0), %%eax" ::"b"(16) : "eax");
    return 9;
}
