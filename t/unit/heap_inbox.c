/*
 * heap_inbox.c - blocks that another thread frees: into the owner's inbox, and what happens to them
 * when it is full, when the owner ends, when a writer stops half-way, when the process forks.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/remote.h"
#include "core/heap/thread_heap.h"
#include "t/lib/heap_misuse.h"
#include "t/lib/tap.h"

#define BLOCKS 10000u

static void *blocks[BLOCKS];

static bool is_valid(void)
{
    struct problem why = {0};
    bool valid = heap_is_valid(&why);

    if (!valid)
        tap_note("%s", why.text);
    return valid;
}

static uint64_t live_blocks(void)
{
    static struct heap_census census;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    return census.totals.live_blocks;
}

static size_t bytes_of(uint32_t i)
{
    return 16 + i % 7 * 16;
}

static void allocate(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = heap_malloc(bytes_of(i));
}

/* In order, but that every seventh comes later: several slabs at once. */
static void free_blocks(uint32_t first, uint32_t end)
{
    for (uint32_t turn = 0; turn < 2; turn++)
        for (uint32_t i = first; i < end; i++)
            if ((i % 7 == 0) == turn)
                heap_free(blocks[i]);
}

static uint64_t waiting(void)
{
    return inbox_waiting(heap_thread);
}

struct freeing {
    uint32_t first, end;
    bool singly; /* the first ones go to their slabs at once, as in a program's thread */
};

static void begin_freeing(const struct freeing *freeing)
{
    heap_free(heap_malloc(1)); /* a thread heap of its own */
    if (!freeing->singly)
        heap_thread->singles_left = 0;
    free_blocks(freeing->first, freeing->end);
}

static void *free_and_end(void *argument)
{
    begin_freeing(argument);
    heap_thread_exit();
    return NULL;
}

static void in_another_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;

    if (CHECK_EQ(pthread_create(&thread, NULL, run, argument), 0))
        pthread_join(thread, NULL);
}

static void freed_by_another(uint32_t first, uint32_t end)
{
    struct freeing freeing = {.first = first, .end = end};

    in_another_thread(free_and_end, &freeing);
}

static void what_another_thread_frees_waits_in_the_owners_inbox(void)
{
    uint64_t before = live_blocks();

    allocate(1000);
    freed_by_another(0, 999);
    CHECK_EQ(waiting(), 999);
    CHECK_EQ(live_blocks(), before + 1);
    for (uint32_t i = 0; i < 999; i++)
        CHECK(inbox_has(heap_thread, blocks[i]) &&
              !slab_looks_free(heap_block_span(blocks[i]), blocks[i]));
    CHECK(!inbox_has(heap_thread, blocks[999]));
    CHECK(is_valid());
    inbox_take(heap_thread);
    CHECK_EQ(waiting(), 0);
    for (uint32_t i = 0; i < 999; i++)
        CHECK(slab_looks_free(heap_block_span(blocks[i]), blocks[i]));
    heap_free(blocks[999]);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

static void malloc_takes_from_it_when_a_list_is_empty(void)
{
    uint64_t before = live_blocks();
    uint32_t taken = 0;

    allocate(3000);
    freed_by_another(0, 3000);
    CHECK_EQ(waiting(), 3000);
    while (waiting() > 0 && taken < BLOCKS)
        blocks[taken++] = heap_malloc(16);
    CHECK_EQ(waiting(), 0);
    CHECK(taken <= SLICE_BYTES / 16 + 1); /* no more than the slab had */
    CHECK_EQ(live_blocks(), before + taken);
    while (taken > 0)
        heap_free(blocks[--taken]);
    CHECK(is_valid());
}

static void what_finds_no_room_goes_to_its_slab(void)
{
    uint64_t before = live_blocks();

    allocate(BLOCKS);
    freed_by_another(0, BLOCKS);
    CHECK(waiting() <= INBOX_BLOCKS && waiting() > INBOX_BLOCKS - REMOTE_BATCH_BLOCKS);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
    heap_trim();
    CHECK_EQ(waiting(), 0);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

static void a_threads_first_ones_go_to_their_slabs_at_once(void)
{
    struct freeing freeing = {.end = 1000, .singly = true};
    uint64_t before = live_blocks();

    allocate(1000);
    in_another_thread(free_and_end, &freeing);
    CHECK_EQ(waiting(), 1000 - REMOTE_SINGLES_AN_EPOCH);
    CHECK_EQ(live_blocks(), before);
    heap_trim();
    CHECK(is_valid());
}

static void the_ring_goes_round(void)
{
    uint64_t before = live_blocks();

    for (int round = 0; round < 20; round++) {
        allocate(1500);
        freed_by_another(0, 1500);
        CHECK_EQ(waiting(), 1500);
        inbox_take(heap_thread);
        CHECK(is_valid());
    }
    CHECK(heap_thread->inbox_taken > 2 * INBOX_BLOCKS);
    CHECK_EQ(live_blocks(), before);
}

/* --- owners that end --- */

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

static pthread_t start_an_owner(struct thread_heap **owner)
{
    pthread_t thread;

    sem_init(&allocated, 0, 0);
    sem_init(&may_end, 0, 0);
    if (!CHECK_EQ(pthread_create(&thread, NULL, allocate_and_end, owner), 0))
        exit(1);
    sem_wait(&allocated);
    return thread;
}

static void end_the_owner(pthread_t thread)
{
    sem_post(&may_end);
    pthread_join(thread, NULL);
}

static void an_owner_that_ends_leaves_nothing_in_its_inbox(void)
{
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

    heap_thread->singles_left = 0;
    free_blocks(0, 500);
    remote_post(heap_here(), heap_thread);
    CHECK_EQ(inbox_waiting(owner), 500);
    end_the_owner(thread);
    CHECK_EQ(inbox_waiting(owner), 0);
    CHECK_EQ(live_blocks(), before + 500);
    CHECK(is_valid());
    free_blocks(500, 1000);
    remote_post(heap_here(), heap_thread);
    CHECK_EQ(inbox_waiting(owner), 0);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* As when the writer filled its places after the owner had looked for the last time. */
static void who_finds_the_owner_dead_empties_its_inbox(void)
{
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

    heap_thread->singles_left = 0;
    end_the_owner(thread);
    owner->inbox[owner->inbox_reserved++ % INBOX_BLOCKS] = (uint64_t)blocks[0];
    free_blocks(1, 1000);
    remote_post(heap_here(), heap_thread);
    CHECK_EQ(inbox_waiting(owner), 0);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* --- writers that stop --- */

static void nobody_waits_for_a_writer_that_has_stopped(void)
{
    uint64_t before = live_blocks();

    allocate(200);
    freed_by_another(0, 50);
    heap_thread->inbox_reserved += 3; /* and does not fill them */
    freed_by_another(50, 100);
    inbox_take(heap_thread);
    CHECK_EQ(waiting(), 3 + 50);
    CHECK_EQ(live_blocks(), before + 100);
    inbox_close_gaps(heap_thread);
    CHECK(is_valid());
    inbox_take(heap_thread);
    CHECK_EQ(waiting(), 0);
    free_blocks(100, 200);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* --- fork --- */

static sem_t freed, forked;

static void *free_and_stay(void *argument)
{
    begin_freeing(argument);
    sem_post(&freed);
    sem_wait(&forked);
    heap_thread_exit();
    return NULL;
}

static int fork_heap(void)
{
    int child, status = 0;

    fflush(stdout);
    heap_fork_prepare();
    child = fork();
    if (child != 0) {
        heap_fork_parent();
        waitpid(child, &status, 0);
        return status;
    }
    heap_fork_child();
    return -1;
}

/* What the child finds of 1,000 blocks, all of them freed by a thread that it does not have. */
static void child_of_fork(uint64_t live_wanted)
{
    bool good = is_valid();

    heap_trim();
    good = good && is_valid() && waiting() == 0 && live_blocks() == live_wanted;
    if (!good)
        tap_note("in the child: %lu live, %lu wanted", live_blocks(), live_wanted);
    fflush(stdout);
    _exit(good ? 0 : 1);
}

static void the_child_of_fork_loses_nothing(void)
{
    struct freeing freeing = {.end = 1000};
    uint64_t before = live_blocks();
    pthread_t thread;
    int status;

    sem_init(&freed, 0, 0);
    sem_init(&forked, 0, 0);
    allocate(1000);
    if (!CHECK_EQ(pthread_create(&thread, NULL, free_and_stay, &freeing), 0))
        return;
    sem_wait(&freed);
    CHECK(waiting() < 1000); /* some are in its batch */
    status = fork_heap();
    if (status < 0)
        child_of_fork(before);
    CHECK_EQ(status, 0);
    sem_post(&forked);
    pthread_join(thread, NULL);
    heap_trim();
    CHECK_EQ(live_blocks(), before);
}

/* The writer was posting its batch, of which one block is in the inbox, in the first of 2 places.
 */
static void a_batch_that_was_being_posted_is_lost_to_the_child(void)
{
    struct thread_heap *other;
    pthread_t thread = start_an_owner(&other);
    uint64_t before = live_blocks();
    struct remote_batch *batch = &other->batches[3];
    void *mine[2] = {heap_malloc(64), heap_malloc(64)};
    int status;

    batch->owner = (uint64_t)heap_thread;
    batch->blocks[0] = (uint64_t)mine[0];
    batch->blocks[1] = (uint64_t)mine[1];
    batch->count = 2;
    other->batching = 1;
    other->posting = 4;
    heap_thread->inbox[heap_thread->inbox_reserved % INBOX_BLOCKS] = (uint64_t)mine[0];
    heap_thread->inbox_reserved += 2;
    status = fork_heap();
    if (status < 0)
        child_of_fork(before + 1);
    CHECK_EQ(status, 0);
    batch->count = other->batching = other->posting = 0;
    inbox_close_gaps(heap_thread);
    inbox_take(heap_thread);
    heap_free(mine[1]);
    free_blocks(0, 1000);
    end_the_owner(thread);
    heap_trim();
    CHECK_EQ(live_blocks(), before - 1000);
}

/* The thread that is gone had one block in its hands, out of its inbox or not quite. */
static void a_block_in_an_owners_hands_is_lost_to_the_child(void)
{
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

    heap_thread->singles_left = 0;
    free_blocks(0, 500);
    remote_post(heap_here(), heap_thread);
    for (int is_out = 0; is_out < 2; is_out++) {
        uint64_t *place = &owner->inbox[owner->inbox_taken % INBOX_BLOCKS], block = *place;
        int status;

        owner->taking = 1;
        owner->inbox_next = owner->inbox_taken + 1;
        *place = is_out ? 0 : block;
        status = fork_heap();
        if (status < 0)
            child_of_fork(before + 500 + (uint64_t)is_out);
        CHECK_EQ(status, 0);
        owner->taking = 0;
        owner->inbox_next = owner->inbox_taken;
        *place = block;
    }
    free_blocks(500, 1000);
    remote_post(heap_here(), heap_thread);
    end_the_owner(thread);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* --- many at once --- */

#define WRITERS 4

static void *free_a_quarter(void *argument)
{
    uint32_t quarter = *(uint32_t *)argument;

    heap_free(heap_malloc(1));
    heap_thread->singles_left = 0;
    for (uint32_t i = quarter; i < BLOCKS; i += WRITERS)
        heap_free(blocks[i]);
    heap_thread_exit();
    return NULL;
}

static void many_write_while_the_owner_takes(void)
{
    uint64_t before = live_blocks();
    uint32_t quarters[WRITERS];
    pthread_t threads[WRITERS];

    for (int round = 0; round < 20; round++) {
        allocate(BLOCKS);
        for (uint32_t i = 0; i < WRITERS; i++) {
            quarters[i] = i;
            if (!CHECK_EQ(pthread_create(&threads[i], NULL, free_a_quarter, &quarters[i]), 0))
                return;
        }
        for (int i = 0; i < 100; i++)
            inbox_take(heap_thread);
        for (uint32_t i = 0; i < WRITERS; i++)
            pthread_join(threads[i], NULL);
        inbox_take(heap_thread);
        CHECK_EQ(waiting(), 0);
        CHECK(is_valid());
        CHECK_EQ(live_blocks(), before);
    }
}

/* --- misuse --- */

static void *free_both_and_end(void *unused)
{
    heap_free(heap_malloc(1));
    heap_thread->singles_left = 0;
    heap_free(blocks[0]);
    heap_thread_exit();
    return unused;
}

static void double_free_on_its_way(void)
{
    allocate(1);
    in_another_thread(free_both_and_end, NULL);
    in_another_thread(free_both_and_end, NULL);
    inbox_take(heap_thread);
}

static void double_free_by_owner_first(void)
{
    allocate(1);
    heap_free(blocks[0]);
    in_another_thread(free_both_and_end, NULL);
    inbox_take(heap_thread);
}

static void double_free_by_owner_last(void)
{
    allocate(1);
    in_another_thread(free_both_and_end, NULL);
    heap_free(blocks[0]);
    heap_trim();
}

static void inside_a_block(void)
{
    allocate(2);
    blocks[0] = (char *)blocks[1] + 8;
    in_another_thread(free_both_and_end, NULL);
}

static void misuse_is_reported_when_the_owner_takes(void)
{
    static const struct heap_misuse cases[] = {
        {double_free_on_its_way, "pheap: double free of 0x"},
        {double_free_by_owner_first, "pheap: double free of 0x"},
        {double_free_by_owner_last, "pheap: double free of 0x"},
        {inside_a_block, "not the start of a block; the slab at 0x"},
    };

    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1)); /* a thread heap for the main thread */
    RUN(what_another_thread_frees_waits_in_the_owners_inbox);
    RUN(malloc_takes_from_it_when_a_list_is_empty);
    RUN(what_finds_no_room_goes_to_its_slab);
    RUN(a_threads_first_ones_go_to_their_slabs_at_once);
    RUN(the_ring_goes_round);
    RUN(an_owner_that_ends_leaves_nothing_in_its_inbox);
    RUN(who_finds_the_owner_dead_empties_its_inbox);
    RUN(nobody_waits_for_a_writer_that_has_stopped);
    RUN(the_child_of_fork_loses_nothing);
    RUN(a_batch_that_was_being_posted_is_lost_to_the_child);
    RUN(a_block_in_an_owners_hands_is_lost_to_the_child);
    RUN(many_write_while_the_owner_takes);
    RUN(misuse_is_reported_when_the_owner_takes);
    return tap_done();
}
