/*
 * inbox_fixture.c - see inbox_fixture.h.
 */
#include "t/lib/inbox_fixture.h"

#include <semaphore.h>
#include <stdlib.h>
#include "t/lib/tap.h"

void *blocks[BLOCKS];

bool is_valid(void)
{
    struct problem why = {0};
    bool valid = heap_is_valid(&why);

    if (!valid)
        tap_note("%s", why.text);
    return valid;
}

uint64_t live_blocks(void)
{
    static struct heap_census census;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    return census.totals.live_blocks;
}

static size_t bytes_of(uint32_t i)
{
    return 16 + i % 7 * 16;
}

void allocate(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = heap_malloc(bytes_of(i));
}

void free_by_batch(void *block)
{
    heap_thread->singles_left = 0;
    heap_free(block);
}

void free_blocks(uint32_t first, uint32_t end)
{
    for (uint32_t turn = 0; turn < 2; turn++)
        for (uint32_t i = first; i < end; i++)
            if ((i % 7 == 0) == turn)
                free_by_batch(blocks[i]);
}

uint64_t waiting(void)
{
    return inbox_waiting(heap_thread);
}

struct range {
    uint32_t first, end;
};

static void *free_and_end(void *argument)
{
    const struct range *range = argument;

    heap_free(heap_malloc(1)); /* a thread heap of its own */
    free_blocks(range->first, range->end);
    heap_thread_exit();
    return NULL;
}

void in_another_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;

    if (CHECK_EQ(pthread_create(&thread, NULL, run, argument), 0))
        pthread_join(thread, NULL);
}

void freed_by_another(uint32_t first, uint32_t end)
{
    struct range range = {first, end};

    in_another_thread(free_and_end, &range);
}

static sem_t allocated, may_end;

static void *allocate_and_end(void *argument)
{
    *(struct thread_heap **)argument = (heap_free(heap_malloc(1)), heap_thread);
    allocate(1000);
    sem_post(&allocated);
    sem_wait(&may_end);
    heap_thread_exit();
    return NULL;
}

pthread_t start_an_owner(struct thread_heap **owner)
{
    pthread_t thread;

    sem_init(&allocated, 0, 0);
    sem_init(&may_end, 0, 0);
    if (!CHECK_EQ(pthread_create(&thread, NULL, allocate_and_end, owner), 0))
        exit(1);
    sem_wait(&allocated);
    return thread;
}

void end_the_owner(pthread_t thread)
{
    sem_post(&may_end);
    pthread_join(thread, NULL);
}
