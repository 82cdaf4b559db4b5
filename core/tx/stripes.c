/*
 * stripes.c - see stripes.h.
 *
 * What must always be true: a version is more than the clock was at a time when its stripe was
 * taken; neither ever goes back; who has a stripe exclusively is alone with it. Taking a stripe,
 * looking at the clock and raising it are in one order for all to see: who takes a stripe and then
 * finds the clock below c has taken it before anybody who found the clock at c looks at the stripe.
 */
#include "core/tx/stripes.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/tx/mutant.h"

#define VERSION_SHIFT  16
#define SPINS          64  /* then the processor is given to others, */
#define YIELDS         192 /* then the thread sleeps */
#define READER_ROUNDS  400 /* some 10 ms */
#define SLEEP_NS       50000
#define PATIENCE_NS    10000000ull
#define PATIENCE_LIMIT 6 /* doublings */

/* In a line of its own, that commits read and who meets news writes. */
static struct {
    _Alignas(64) uint64_t now;
} the_clock;

int stripes_create(struct stripes *stripes, struct arena *arena)
{
    *stripes = (struct stripes){.words = arena_alloc(arena, STRIPE_COUNT * 8ull, 64)};
    return stripes->words ? 0 : -ENOMEM;
}

uint64_t stripes_clock(void)
{
    return __atomic_load_n(&the_clock.now, __ATOMIC_SEQ_CST);
}

uint64_t stripes_raise_clock(uint64_t version)
{
    uint64_t now = stripes_clock();

    while (now < version && !TX_MUTANT(TX_MUTANT_CLOCK_NOT_RAISED))
        if (__atomic_compare_exchange_n(&the_clock.now, &now, version, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            now = version;
    return now < version ? version : now;
}

uint64_t stripe_span(uintptr_t address, uint64_t bytes)
{
    uint64_t count = ((address + bytes - 1) >> STRIPE_SHIFT) - (address >> STRIPE_SHIFT) + 1;

    if (bytes == 0)
        return 0;
    return count < STRIPE_COUNT ? count : STRIPE_COUNT;
}

void stripes_pause(unsigned round)
{
    struct timespec sleep = {0, SLEEP_NS};

    TX_WINDOW();
    if (round < SPINS)
        __builtin_ia32_pause();
    else if (round < YIELDS)
        (void)sys_call(SYS_sched_yield);
    else
        (void)sys_call(SYS_nanosleep, &sleep, NULL);
}

/* --- sets --- */

int stripe_set_create(struct stripe_set *set, struct arena *arena)
{
    set->bits = arena_alloc(arena, STRIPE_COUNT / 8, 64);
    set->list = arena_alloc(arena, STRIPE_COUNT * sizeof set->list[0], 64);
    set->count = 0;
    return set->bits && set->list ? 0 : -ENOMEM;
}

bool stripe_set_has(const struct stripe_set *set, uint32_t stripe)
{
    return set->bits[stripe / 64] >> (stripe % 64) & 1;
}

void stripe_set_put(struct stripe_set *set, uint32_t stripe)
{
    if (stripe_set_has(set, stripe))
        return;
    set->bits[stripe / 64] |= 1ull << (stripe % 64);
    set->list[set->count++] = stripe;
}

void stripe_set_empty(struct stripe_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        set->bits[set->list[i] / 64] = 0;
    set->count = 0;
}

/* --- taking and letting go --- */

static uint64_t load(const struct stripes *stripes, uint32_t stripe)
{
    return __atomic_load_n(&stripes->words[stripe], __ATOMIC_SEQ_CST);
}

static bool swap(struct stripes *stripes, uint32_t stripe, uint64_t *from, uint64_t to)
{
    return __atomic_compare_exchange_n(&stripes->words[stripe], from, to, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

static void hold_one(struct stripes *stripes, uint32_t stripe)
{
    uint64_t word = load(stripes, stripe);
    unsigned round = 0;

    for (;;) {
        bool full = (word & STRIPE_TAKEN) == (STRIPE_TAKEN & ~STRIPE_EXCLUSIVE);

        if (!full && !(word & STRIPE_EXCLUSIVE)) {
            if (swap(stripes, stripe, &word, word + STRIPE_HOLDER))
                return;
        } else {
            stripes_pause(round++);
            word = load(stripes, stripe);
        }
    }
}

void stripes_hold(struct stripes *stripes, struct stripe_set *held, uintptr_t address,
                  uint64_t bytes)
{
    uint64_t count = stripe_span(address, bytes);

    if (TX_MUTANT(TX_MUTANT_DIRECT_NOT_HELD))
        return;
    if (held->count == 0 && __atomic_load_n(&stripes->token, __ATOMIC_RELAXED))
        stripes_yield_to_token(stripes, held);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t stripe = (stripe_of(address) + (uint32_t)i) & (STRIPE_COUNT - 1);

        if (!stripe_set_has(held, stripe))
            hold_one(stripes, stripe);
        stripe_set_put(held, stripe);
    }
}

static bool lock_one(struct stripes *stripes, uint32_t stripe)
{
    uint64_t word = load(stripes, stripe);

    if (TX_MUTANT(TX_MUTANT_NOT_LOCKED))
        return true;
    TX_WINDOW();
    while (!(word & STRIPE_TAKEN))
        if (swap(stripes, stripe, &word, word | STRIPE_EXCLUSIVE))
            return true;
    return false;
}

bool stripes_lock(struct stripes *stripes, struct stripe_set *locked, uintptr_t address,
                  uint64_t bytes)
{
    uint64_t count = stripe_span(address, bytes);

    for (uint64_t i = 0; i < count; i++) {
        uint32_t stripe = (stripe_of(address) + (uint32_t)i) & (STRIPE_COUNT - 1);

        if (!stripe_set_has(locked, stripe) && !lock_one(stripes, stripe))
            return false;
        stripe_set_put(locked, stripe);
    }
    return true;
}

/* Another holder may have left with a later version already. */
static void release_one(struct stripes *stripes, uint32_t stripe, uint64_t taken, uint64_t version)
{
    uint64_t word = load(stripes, stripe), next;

    do {
        next = word - taken;
        if (next >> VERSION_SHIFT < version)
            next = version << VERSION_SHIFT | (next & STRIPE_TAKEN);
    } while (!swap(stripes, stripe, &word, next));
}

uint64_t stripe_set_release(struct stripes *stripes, struct stripe_set *held, bool exclusive,
                            bool changed)
{
    uint64_t taken = exclusive ? STRIPE_EXCLUSIVE : STRIPE_HOLDER, clock = 0, version = 0;

    if (held->count == 0)
        return 0;
    if (TX_MUTANT(TX_MUTANT_NOT_LOCKED) && exclusive)
        taken = 0;
    if (changed && !TX_MUTANT(TX_MUTANT_VERSION_NOT_RAISED)) {
        clock = stripes_clock();
        version = clock + 1;
    }
    TX_WINDOW();
    for (uint32_t i = 0; i < held->count; i++)
        release_one(stripes, held->list[i], taken, version);
    stripe_set_empty(held);
    return clock;
}

/* --- reading --- */

bool stripes_unchanged(const struct stripes *stripes, const struct stripe_set *read, uint64_t since,
                       const struct stripe_set *own)
{
    for (uint32_t i = 0; i < read->count; i++) {
        uint32_t stripe = read->list[i];
        uint64_t word = load(stripes, stripe);

        if (word >> VERSION_SHIFT > since)
            return false;
        if ((word & STRIPE_TAKEN) && !(own && stripe_set_has(own, stripe)))
            return false;
    }
    return true;
}

/*
 * The program, or a commit, may be storing there: what was copied counts only if the word is as it
 * was before. Each load comes before the next in x86-64's order, and acquire keeps the compiler to
 * it. Not for the eyes of ThreadSanitizer, which knows no such reading.
 */
__attribute__((no_sanitize("thread"))) static void copy_shared(uint8_t *to, uintptr_t from,
                                                               size_t bytes)
{
    while (bytes > 0) {
        size_t step = from % 8 == 0 && bytes >= 8 ? 8 : 1;

        if (step == 8) {
            uint64_t word = __atomic_load_n((const uint64_t *)from, __ATOMIC_ACQUIRE);

            memcpy(to, &word, 8);
        } else {
            *to = __atomic_load_n((const uint8_t *)from, __ATOMIC_ACQUIRE);
        }
        to += step;
        from += step;
        bytes -= step;
    }
}

int stripes_copy(const struct stripes *stripes, void *to, uintptr_t from, size_t bytes,
                 uint64_t *version)
{
    uint32_t stripe = stripe_of(from);

    for (unsigned round = 0; round < READER_ROUNDS; round++) {
        uint64_t word = load(stripes, stripe);

        if (!(word & STRIPE_TAKEN)) {
            TX_WINDOW();
            copy_shared(to, from, bytes);
            *version = word >> VERSION_SHIFT;
            if (load(stripes, stripe) == word || TX_MUTANT(TX_MUTANT_READ_NOT_CHECKED))
                return 0;
        }
        stripes_pause(round);
    }
    return STATUS_CONFLICT;
}

/* --- the token --- */

static void wait_for_token(const struct stripes *stripes, const void *me)
{
    uint64_t start = sys_clock_ns(CLOCK_MONOTONIC);
    const void *owner;
    unsigned round = SPINS;

    while ((owner = __atomic_load_n(&stripes->token, __ATOMIC_RELAXED)) && owner != me &&
           sys_clock_ns(CLOCK_MONOTONIC) - start <
               __atomic_load_n(&stripes->patience, __ATOMIC_RELAXED))
        stripes_pause(round++);
}

void stripes_yield_to_token(const struct stripes *stripes, const void *me)
{
    const void *owner = __atomic_load_n(&stripes->token, __ATOMIC_RELAXED);

    if (owner && owner != me)
        wait_for_token(stripes, me);
}

/* Who goes on failing makes others wait longer, so that at last it has time for what it does. */
void stripes_take_token(struct stripes *stripes, const void *owner, unsigned failures)
{
    const void *nobody = NULL;

    if (__atomic_load_n(&stripes->token, __ATOMIC_RELAXED) != owner) {
        wait_for_token(stripes, owner);
        if (!__atomic_compare_exchange_n(&stripes->token, &nobody, owner, false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
            return;
    }
    if (failures > PATIENCE_LIMIT)
        failures = PATIENCE_LIMIT;
    __atomic_store_n(&stripes->patience, PATIENCE_NS << failures, __ATOMIC_RELAXED);
}

void stripes_drop_token(struct stripes *stripes, const void *owner)
{
    const void *mine = owner;

    if (__atomic_load_n(&stripes->token, __ATOMIC_RELAXED) != owner)
        return;
    (void)__atomic_compare_exchange_n(&stripes->token, &mine, NULL, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED);
}
