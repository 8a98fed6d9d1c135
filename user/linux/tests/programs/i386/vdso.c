// Without a C library: the entry to the system and the functions of its shared object, returns from handlers.
typedef unsigned int word;
__asm__(".globl _start\n_start: mov %esp, %eax\npush %eax\ncall start\n");

static int enter(word entry, int n, word a, word b, word c) {
    int r;
    __asm__ volatile("call *%%esi" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(entry) : "memory");
    return r;
}

static void action(int signal, word *given) {
    int r;
    __asm__ volatile("push %%esi\nmov $8, %%esi\nint $0x80\npop %%esi"
                     : "=a"(r) : "a"(174), "b"(signal), "c"(given), "d"(0) : "memory");
}

static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static word base, *symbols, *hash;
static char *strings;

static void *find(const char *name) {
    for (word i = 1; i < hash[1]; i++)
        if (same(strings + symbols[4 * i], name)) return (void *)(base + symbols[4 * i + 1]);
    return 0;
}

static volatile int got;
static void handler(int signal) { got = signal; }

void start(word *stack) {
    word entry = 0, *at = stack + 1 + stack[0] + 1;
    while (*at) at++;
    for (at++; *at; at += 2) {
        if (*at == 32) entry = at[1];
        if (*at == 33) base = at[1];
    }
    enter(entry, 4, 1, (word) "hello\n", 6);
    int pid = enter(entry, 20, 0, 0, 0);
    // Handlers without restorers of their own, with both kinds of frames.
    for (int newer = 0; newer < 2; newer++) {
        word given[5] = {(word)handler, newer ? 4 : 0, 0, 0, 0};
        action(10, given);
        got = 0;
        enter(entry, 37, pid, 10, 0);
        if (got == 10) enter(entry, 4, 1, (word)(newer ? "new\n" : "old\n"), 4);
    }
    word *header = (word *)(base + ((word *)base)[7]), *dynamic = 0;
    for (int i = ((unsigned short *)base)[22]; i > 0; i--, header += 8)
        if (header[0] == 2) dynamic = (word *)(base + header[2]);
    for (; *dynamic; dynamic += 2) {
        if (*dynamic == 4) hash = (word *)(base + dynamic[1]);
        if (*dynamic == 5) strings = (char *)base + dynamic[1];
        if (*dynamic == 6) symbols = (word *)(base + dynamic[1]);
    }
    long long now[2] = {0};
    int (*clock)(int, void *) = find("__vdso_clock_gettime64");
    if (clock && clock(0, now) == 0 && now[0] > 1000000000) enter(entry, 4, 1, (word) "clock\n", 6);
    int told = 0, (*time)(int *) = find("__vdso_time");
    if (time && time(&told) == told && told > 1000000000) enter(entry, 4, 1, (word) "time\n", 5);
    enter(entry, 1, 7, 0, 0);
}
