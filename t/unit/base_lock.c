/*
 * base_lock.c - the futex lock: mutual exclusion, try, holder, waiters woken.
 */
#include <pthread.h>
#include <stdbool.h>
#include "core/base/lock.h"
#include "t/lib/tap.h"

#define THREADS 4
#define ROUNDS  20000

static struct lock lock;
static uint64_t counter; /* not atomic: the lock is what keeps it right */
static int inside;

static void *count_up(void *holder)
{
    for (int i = 0; i < ROUNDS; i++) {
        lock_acquire(&lock, holder);
        if (__atomic_add_fetch(&inside, 1, __ATOMIC_RELAXED) != 1)
            counter += 1000000;
        counter++;
        __atomic_sub_fetch(&inside, 1, __ATOMIC_RELAXED);
        lock_release(&lock);
    }
    return NULL;
}

static void one_thread_at_a_time(void)
{
    pthread_t threads[THREADS];
    int holders[THREADS];

    lock_init(&lock, LOCK_RANK_SPANS);
    counter = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_up, &holders[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(counter, THREADS * ROUNDS);
    CHECK_EQ(lock.word, 0);
}

static void *try_it(void *result)
{
    *(bool *)result = lock_try(&lock, result);
    return NULL;
}

static void a_held_lock_is_not_taken_by_try(void)
{
    bool taken = true;
    pthread_t thread;

    lock_init(&lock, LOCK_RANK_SPANS);
    lock_acquire(&lock, &lock);
    pthread_create(&thread, NULL, try_it, &taken);
    pthread_join(thread, NULL);
    CHECK(!taken);
    lock_release(&lock);
    CHECK(lock_try(&lock, &lock));
    lock_release(&lock);
}

static void the_holder_is_known(void)
{
    int me, other;

    lock_init(&lock, LOCK_RANK_SPANS);
    CHECK(!lock_held_by(&lock, &me));
    lock_acquire(&lock, &me);
    CHECK(lock_held_by(&lock, &me));
    CHECK(!lock_held_by(&lock, &other));
    lock_release(&lock);
    CHECK(!lock_held_by(&lock, &me));
}

static void *wait_for_it(void *holder)
{
    lock_acquire(&lock, holder);
    counter = 1;
    lock_release(&lock);
    return NULL;
}

static void a_waiter_that_sleeps_is_woken(void)
{
    pthread_t thread;

    lock_init(&lock, LOCK_RANK_SPANS);
    counter = 0;
    lock_acquire(&lock, &lock);
    pthread_create(&thread, NULL, wait_for_it, &counter);
    while (!(__atomic_load_n(&lock.word, __ATOMIC_RELAXED) & 1))
        __builtin_ia32_pause();
    CHECK_EQ(counter, 0);
    lock_release(&lock);
    pthread_join(thread, NULL);
    CHECK_EQ(counter, 1);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(one_thread_at_a_time);
    RUN(a_held_lock_is_not_taken_by_try);
    RUN(the_holder_is_known);
    RUN(a_waiter_that_sleeps_is_woken);
    return tap_done();
}
