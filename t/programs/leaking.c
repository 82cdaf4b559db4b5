/*
 * leaking.c - loses blocks, and obeys signals, each answered by a line: what was done, or what is
 * wrong.
 *
 * Argument: makes so many times fewer blocks.
 *
 *     SIGUSR1   loses blocks of several sizes, from this thread, from one that ends and from one
 *               that lives; some lead to each other
 *     SIGUSR2   writes to a block that it knows by a disguised address alone, and reads the one
 * that this leads to SIGHUP    looks at all that it knows, allocates and frees much in all threads,
 * looks again
 */
#include <signal.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT      3000u
#define LOST_LINK 96u /* sizes that the C library does not use */
#define LOST_SLAB 3000u
#define LOST_SPAN 200000u
#define DISGUISE  0x5555000000000000ull
#define ROUNDS    200000u

struct kept {
    uint32_t bytes;
    uint8_t *block;
};

struct disguised {
    uint64_t changes;
    uint8_t *other;
    uint8_t rest[384];
};

static struct kept kept[KEPT];
static uint32_t kept_count = KEPT, lost = 500, spans = 8; /* lost: of each size */
static uint64_t disguise;                                 /* a struct disguised, xor-ed */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int asked, done; /* of the thread that lives */

static uint8_t pattern(uint32_t i)
{
    return (uint8_t)(i * 37 + 11);
}

static void keep_blocks(uint32_t from, uint32_t step)
{
    for (uint32_t i = from; i < kept_count; i += step) {
        kept[i].bytes = 1 + (i * 7919u) % (i % 50 == 0 ? 300000u : 400u);
        kept[i].block = malloc(kept[i].bytes);
        memset(kept[i].block, pattern(i), kept[i].bytes);
    }
}

static uint32_t count_wrong(void)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < kept_count; i++)
        for (uint32_t at = 0; at < kept[i].bytes; at++)
            if (kept[i].block[at] != pattern(i)) {
                wrong++;
                break;
            }
    return wrong;
}

/* A ring of blocks, each leading to the next, and single ones. */
__attribute__((noinline)) static void lose_blocks(void)
{
    uint64_t *first = calloc(1, LOST_LINK), *last = first;

    for (uint32_t i = 1; i < lost; i++) {
        uint64_t *next = calloc(1, LOST_LINK);

        next[1] = (uint64_t)(uintptr_t)last;
        last = next;
    }
    first[1] = (uint64_t)(uintptr_t)last;
    __asm__ volatile("" : : "r"(first) : "memory"); /* else the compiler makes none */
    for (uint32_t i = 0; i < lost; i++)
        memset(malloc(LOST_SLAB), (int)i, LOST_SLAB);
    for (uint32_t i = 0; i < spans; i++)
        memset(malloc(LOST_SPAN), (int)i, LOST_SPAN);
}

/* What is left in registers and on the stack leads nowhere. */
__attribute__((noinline)) static void forget(void)
{
    volatile uint8_t stack[16384];

    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = 0;
}

static void lose(void)
{
    lose_blocks();
    forget();
}

static void *lose_and_end(void *unused)
{
    lose();
    return unused;
}

static void *keep_and_end(void *unused)
{
    keep_blocks(1, 3);
    return unused;
}

/* Frees what other threads allocated too. */
static void churn(uint32_t seed)
{
    static void *blocks[512];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t place = (seed = seed * 1664525u + 1013904223u) >> 23;
        uint32_t size = 1 + (seed & (seed >> 28 == 0 ? 0xfffffu : 0xfffu));
        void *mine = malloc(size), *old;

        memset(mine, 0xa5, size < 64 ? size : 64);
        pthread_mutex_lock(&lock);
        old = blocks[place];
        blocks[place] = mine;
        pthread_mutex_unlock(&lock);
        free(old);
    }
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < 512; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    pthread_mutex_unlock(&lock);
}

static void *live_on(void *unused)
{
    keep_blocks(2, 3);
    pthread_mutex_lock(&turn);
    for (;;) {
        while (asked == 0)
            pthread_cond_wait(&turned, &turn);
        if (asked == 'l')
            lose();
        else
            churn(3);
        asked = 0;
        done = 1;
        pthread_cond_broadcast(&turned);
    }
    return unused;
}

static void ask_other(int what)
{
    pthread_mutex_lock(&turn);
    asked = what;
    done = 0;
    pthread_cond_broadcast(&turned);
    while (!done)
        pthread_cond_wait(&turned, &turn);
    pthread_mutex_unlock(&turn);
}

static void in_a_thread(void *(*what)(void *))
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, what, NULL) != 0)
        abort();
    pthread_join(thread, NULL);
}

static void *churn_and_end(void *unused)
{
    churn(2);
    return unused;
}

__attribute__((noinline)) static void make_disguised(void)
{
    struct disguised *hidden = calloc(1, sizeof *hidden);

    hidden->other = malloc(LOST_SLAB - 500);
    memset(hidden->other, 77, LOST_SLAB - 500);
    disguise = (uint64_t)(uintptr_t)hidden ^ DISGUISE;
}

__attribute__((noinline)) static void change(void)
{
    struct disguised *hidden = (struct disguised *)(uintptr_t)(disguise ^ DISGUISE);

    printf("changed %lu %u\n", (unsigned long)++hidden->changes, hidden->other[LOST_SLAB - 501]);
}

static void leak(void)
{
    lose();
    in_a_thread(lose_and_end);
    ask_other('l');
    printf("leaked\n");
}

static void look(void)
{
    uint32_t wrong = count_wrong();

    churn(1);
    in_a_thread(churn_and_end);
    ask_other('c');
    printf("wrong %u %u\n", wrong, count_wrong());
}

static void make_fewer(uint32_t times)
{
    kept_count /= times;
    lost /= times;
    spans = 1 + spans / times;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    sigset_t orders;
    int order;

    sigemptyset(&orders);
    sigaddset(&orders, SIGUSR1);
    sigaddset(&orders, SIGUSR2);
    sigaddset(&orders, SIGHUP);
    sigprocmask(SIG_BLOCK, &orders, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        make_fewer((uint32_t)atoi(argv[1]));
    if (pthread_create(&thread, NULL, live_on, NULL) != 0)
        return 1;
    keep_blocks(0, 3);
    in_a_thread(keep_and_end);
    make_disguised();
    forget();
    printf("ready %u\n", 3 * (2 * lost + spans));
    while (sigwait(&orders, &order) == 0) {
        if (order == SIGUSR1)
            leak();
        else if (order == SIGUSR2)
            change();
        else
            look();
        forget();
    }
    return 0;
}
