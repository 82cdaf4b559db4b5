/*
 * heap_inbox_ends.c - what becomes of blocks in inboxes, and on their way there, when threads end
 * and when the process forks.
 */
#include <semaphore.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "t/lib/inbox_fixture.h"
#include "t/lib/tap.h"

/* --- owners that end --- */

static void an_owner_that_ends_leaves_nothing_in_its_inbox(void)
{
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

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

    end_the_owner(thread);
    owner->inbox[owner->inbox_reserved++ % INBOX_BLOCKS] = (uint64_t)blocks[0];
    free_blocks(1, 1000);
    remote_post(heap_here(), heap_thread);
    CHECK_EQ(inbox_waiting(owner), 0);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* Its inbox had blocks of slabs that are not its own any more. */
static void who_ends_hands_on_what_is_not_its(void)
{
    struct thread_heap *owner;
    uint64_t mine[100], taken = 0;
    pthread_t thread;

    for (int i = 0; i < 100; i++)
        mine[i] = (uint64_t)heap_malloc(64);
    thread = start_an_owner(&owner);
    owner->singles_left = 0;
    CHECK(inbox_put(owner, mine, 100, &taken));
    end_the_owner(thread);
    for (int i = 0; i < REMOTE_BATCHES; i++)
        CHECK_EQ(owner->batches[i].count, 0);
    CHECK(waiting() > 0);
    free_blocks(0, 1000);
    heap_trim();
    CHECK(is_valid());
}

static void *leave_out_of_a_handler(void *seen)
{
    heap_free(heap_malloc(1));
    heap_thread->taking = heap_thread->batching = 1;
    heap_thread->posting = (uint64_t)heap_thread;
    *(struct thread_heap **)seen = heap_thread;
    heap_thread_exit();
    return NULL;
}

static void *adopt(void *seen)
{
    heap_free(heap_malloc(1));
    CHECK_EQ(heap_thread->taking | heap_thread->batching | heap_thread->posting, 0);
    *(struct thread_heap **)seen = heap_thread;
    heap_thread_exit();
    return NULL;
}

static void who_adopts_a_heap_takes_and_posts(void)
{
    struct thread_heap *left = NULL, *adopted = NULL;

    in_another_thread(leave_out_of_a_handler, &left);
    in_another_thread(adopt, &adopted);
    CHECK(left == adopted);
}

static void *foreign;

static void *free_foreign(void *unused)
{
    heap_free(heap_malloc(1));
    free_by_batch(foreign);
    heap_thread_exit();
    return unused;
}

static void an_address_like_a_blocks_in_another_slot_is_none(void)
{
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

    foreign = (char *)blocks[0] + 5 * SLOT_BYTES;
    in_another_thread(free_foreign, NULL);
    CHECK_EQ(inbox_waiting(owner), 0);
    free_blocks(0, 1000);
    remote_post(heap_here(), heap_thread);
    end_the_owner(thread);
    CHECK(is_valid());
}

/* --- fork --- */

static sem_t freed, forked;

static void *free_and_stay(void *unused)
{
    heap_free(heap_malloc(1));
    free_blocks(0, 1000);
    sem_post(&freed);
    sem_wait(&forked);
    heap_thread_exit();
    return unused;
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
    uint64_t before = live_blocks();
    pthread_t thread;
    int status;

    sem_init(&freed, 0, 0);
    sem_init(&forked, 0, 0);
    allocate(1000);
    if (!CHECK_EQ(pthread_create(&thread, NULL, free_and_stay, NULL), 0))
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

/* The writer had two blocks on its stack, and one of them in the inbox, in the first of two places.
 */
static void what_was_being_posted_is_lost_to_the_child(void)
{
    struct thread_heap *other;
    pthread_t thread = start_an_owner(&other);
    uint64_t before = live_blocks();
    void *mine[2] = {heap_malloc(64), heap_malloc(64)};
    int status;

    other->batching = 1;
    other->posting = (uint64_t)heap_thread;
    heap_thread->inbox[heap_thread->inbox_reserved % INBOX_BLOCKS] = (uint64_t)mine[0];
    heap_thread->inbox_reserved += 2;
    status = fork_heap();
    if (status < 0)
        child_of_fork(before + 1);
    CHECK_EQ(status, 0);
    other->batching = other->posting = 0;
    inbox_close_gaps(heap_thread);
    inbox_take(heap_thread);
    heap_free(mine[1]);
    free_blocks(0, 1000);
    end_the_owner(thread);
    heap_trim();
    CHECK_EQ(live_blocks(), before - 1000);
}

/* A signal handler forks over a post of its own thread, between the places and the blocks in them;
 * in the child, too, the interrupted post goes on. */
static void fork_over_a_post_of_its_own_thread(void)
{
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);
    uint64_t before = live_blocks(), place = owner->inbox_reserved++;
    int status;

    heap_thread->batching = 1;
    heap_thread->posting = (uint64_t)owner;
    status = fork_heap();
    owner->inbox[place % INBOX_BLOCKS] = (uint64_t)blocks[0];
    thread_heap_tend(heap_here(), owner, NULL);
    heap_thread->posting = heap_thread->batching = 0;
    if (status < 0)
        child_of_fork(before - 1);
    CHECK_EQ(status, 0);
    free_blocks(1, 1000);
    remote_post(heap_here(), heap_thread);
    end_the_owner(thread);
    CHECK_EQ(live_blocks(), before - 1000);
    CHECK(is_valid());
}

/* It was taking the ring back to its beginning, at each step of that. */
static void a_ring_that_was_beginning_anew_serves_the_child(void)
{
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);
    uint64_t end = owner->inbox_taken, beginning = (end | (INBOX_BLOCKS - 1)) + 1;

    owner->taking = 1;
    for (int is_reserved = 0; is_reserved < 2; is_reserved++) {
        int status;

        owner->inbox_next = beginning;
        owner->inbox_reserved = is_reserved ? beginning : end;
        status = fork_heap();
        if (status < 0) {
            free_blocks(0, 1000);
            remote_post(heap_here(), heap_thread);
            child_of_fork(before);
        }
        CHECK_EQ(status, 0);
    }
    owner->taking = 0;
    owner->inbox_taken = beginning;
    free_blocks(0, 1000);
    remote_post(heap_here(), heap_thread);
    end_the_owner(thread);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* A signal handler of its own thread forks over that, while a writer that the child does not have
 * has reserved two places. */
static void fork_over_a_ring_that_begins_anew(void)
{
    uint64_t end = heap_thread->inbox_taken, beginning = (end | (INBOX_BLOCKS - 1)) + 1;
    int status;

    heap_thread->taking = 2;
    heap_thread->inbox_next = beginning;
    heap_thread->inbox_reserved += 2;
    status = fork_heap();
    heap_thread->inbox_next = end; /* the interrupted call finds that somebody has reserved */
    heap_thread->taking = 0;
    if (status < 0) {
        heap_free(heap_malloc(64));
        child_of_fork(live_blocks());
    }
    CHECK_EQ(status, 0);
    inbox_close_gaps(heap_thread);
    inbox_take(heap_thread);
    CHECK(is_valid());
}

static void *leave_while_the_ring_begins_anew(void *unused)
{
    heap_free(heap_malloc(1));
    heap_thread->taking = 2;
    heap_thread->inbox_next = (heap_thread->inbox_taken | (INBOX_BLOCKS - 1)) + 1;
    heap_thread_exit();
    return unused;
}

static void who_leaves_while_the_ring_begins_anew_leaves_it_whole(void)
{
    in_another_thread(leave_while_the_ring_begins_anew, NULL);
    CHECK(is_valid());
}

/* The thread that is gone had one block in its hands, out of its inbox or not quite. */
static void a_block_in_an_owners_hands_is_lost_to_the_child(void)
{
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

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

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1)); /* a thread heap for the main thread */
    RUN(an_owner_that_ends_leaves_nothing_in_its_inbox);
    RUN(who_finds_the_owner_dead_empties_its_inbox);
    RUN(who_ends_hands_on_what_is_not_its);
    RUN(who_adopts_a_heap_takes_and_posts);
    RUN(an_address_like_a_blocks_in_another_slot_is_none);
    RUN(the_child_of_fork_loses_nothing);
    RUN(what_was_being_posted_is_lost_to_the_child);
    RUN(fork_over_a_post_of_its_own_thread);
    RUN(a_ring_that_was_beginning_anew_serves_the_child);
    RUN(fork_over_a_ring_that_begins_anew);
    RUN(who_leaves_while_the_ring_begins_anew_leaves_it_whole);
    RUN(a_block_in_an_owners_hands_is_lost_to_the_child);
    return tap_done();
}
