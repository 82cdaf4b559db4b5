/*
 * heap_step.c - a signal handler frees blocks of another thread between instructions of a free that
 * does the same: the processor stops after each (the trap flag).
 */
#include <signal.h>
#include "t/lib/inbox_fixture.h"
#include "t/lib/tap.h"

#define FREES   1000
#define AT_MOST 150 /* instructions; a free that posts a batch takes more */

static uint32_t next, end, at, steps;

static void free_one_more(int signal_number)
{
    (void)signal_number;
    if (++steps == at && next < end)
        free_by_batch(blocks[next++]);
}

static void step(bool on)
{
    if (on)
        __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    else
        __asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

/* A new epoch now and then, whose first free posts all batches. */
static void a_handler_frees_between_instructions_of_a_free(void)
{
    struct sigaction trap = {.sa_handler = free_one_more};
    uint64_t before = live_blocks();
    struct thread_heap *owner;
    pthread_t thread = start_an_owner(&owner);

    sigaction(SIGTRAP, &trap, NULL);
    next = FREES / 2;
    end = FREES;
    for (uint32_t i = 0; i < FREES / 2; i++) {
        if (i % 37 == 0)
            heap_here()->epoch++;
        heap_thread->singles_left = 0;
        at = i % AT_MOST;
        steps = 0;
        step(true);
        heap_free(blocks[i]);
        step(false);
    }
    CHECK(end - next < FREES / 4); /* the others ended before that instruction */
    free_blocks(next, end);
    remote_post(heap_here(), heap_thread);
    end_the_owner(thread);
    CHECK(is_valid());
    CHECK_EQ(live_blocks(), before);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1)); /* a thread heap for the main thread */
    RUN(a_handler_frees_between_instructions_of_a_free);
    return tap_done();
}
