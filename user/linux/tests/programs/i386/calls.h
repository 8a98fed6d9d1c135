/* Calls and words for programs without a C library. */
typedef unsigned long word;

static long call_of_5(long n, long a, long b, long c, long d, long e)
{
    long r;
    __asm__ volatile("int $0x80"
                     : "=a"(r)
                     : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return r;
}

static long call(long n, long a, long b, long c, long d)
{
    return call_of_5(n, a, b, c, d, 0);
}

static void text(const char *s)
{
    long n = 0;
    while (s[n])
        n++;
    call(4, 1, (long)s, n, 0);
}

static void tell(const char *name, long value)
{
    char digits[4] = {' ', (char)('0' + value / 10), (char)('0' + value % 10), '\n'};
    text(name);
    call(4, 1, (long)digits, 4, 0);
}

int main_here(void);

void start_here(void)
{
    call(252, main_here(), 0, 0, 0);
}
__asm__(".globl _start\n_start: and $-16, %esp\n\tcall start_here\n");
