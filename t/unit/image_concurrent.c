/*
 * image_concurrent.c - pre-copy beside a thread that stores, drops, maps and unmaps without pause:
 * torn pages and vanished mappings must come right in the cut, for which the thread stands still.
 */
#include "t/lib/image_fixture.h"
#include "t/lib/test_random.h"

#include <pthread.h>
#include <sched.h>

#define PAGES               2000u
#define GENERATIONS         15
#define TOGGLE_DELAY_MAX_US 3000

static enum tracking track;
static struct fixture f;
static uint8_t *memory;

enum { RUNNING, STOPPING, STOPPED, ENDING };
static int state;

static void set_state(int next)
{
    __atomic_store_n(&state, next, __ATOMIC_SEQ_CST);
}

static int get_state(void)
{
    return __atomic_load_n(&state, __ATOMIC_SEQ_CST);
}

/* Stores through a whole page, word by word: a copy taken meanwhile is torn. */
static void store_page(uint64_t page, uint64_t value)
{
    volatile uint64_t *words = (uint64_t *)(memory + page * 4096);

    for (int i = 0; i < 512; i++)
        words[i] = value + (uint64_t)i;
}

static void *program(void *unused)
{
    uint64_t random = 88172645463325252ull, *chunks[8] = {0};

    for (;;) {
        uint64_t choice = test_random(&random), page = test_random(&random) % (PAGES - 16);

        if (get_state() == STOPPING)
            set_state(STOPPED);
        if (get_state() == ENDING)
            break;
        if (get_state() == STOPPED) {
            sched_yield();
            continue;
        }
        if (choice % 64 == 0) {
            madvise(memory + page * 4096, 8 * 4096, MADV_DONTNEED);
        } else if (choice % 64 == 1) {
            mprotect(memory + page * 4096, 4096, PROT_READ);
            mprotect(memory + page * 4096, 4096, PROT_READ | PROT_WRITE);
        } else if (choice % 64 == 2) {
            uint64_t **chunk = &chunks[test_random(&random) % 8];

            if (*chunk)
                munmap(*chunk, 16 * 4096);
            *chunk = fixture_map(16);
            (*chunk)[512] = 1;
        } else {
            store_page(page, choice);
        }
    }
    for (int i = 0; i < 8; i++)
        if (chunks[i])
            munmap(chunks[i], 16 * 4096);
    return unused;
}

/* A word of every second page: more runs than the kernel tells at once (pagemap.h). */
static void toggle_words(void)
{
    for (uint64_t page = 0; page < PAGES; page += 2)
        *(volatile uint64_t *)(memory + page * 4096) ^= 1;
}

/* Toggles once, a little later, beside a pre-copy. */
static void *toggler(void *delay_us)
{
    usleep((useconds_t)(uintptr_t)delay_us);
    toggle_words();
    return NULL;
}

static void stop_program(void)
{
    set_state(STOPPING);
    while (get_state() != STOPPED)
        sched_yield();
}

static void what_a_running_program_does_comes_right_in_the_cut(void)
{
    pthread_t thread;

    memory = fixture_map(PAGES);
    set_state(RUNNING);
    pthread_create(&thread, NULL, program, NULL);
    if (fixture_start(&f, track, 0)) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);

        for (int generation = 0; generation < GENERATIONS; generation++) {
            for (int round = 0; round < 4; round++)
                if (!CHECK_OK(fixture_precopy(&f)))
                    tap_note("%s", f.why.text);
            stop_program();
            CHECK_OK(fixture_cut(&f));
            memcpy(model, memory, PAGES * 4096);
            set_state(RUNNING);
            CHECK_OK(fixture_commit(&f));
            if (!CHECK(fixture_shows(&f, memory, model, PAGES * 4096)))
                break;
        }
    }
    set_state(ENDING);
    pthread_join(thread, NULL);
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

/* As a garbage collector does with the marks in its objects' heads. */
static void what_a_program_changes_and_changes_back_is_as_it_was(void)
{
    memory = fixture_map(PAGES);
    memset(memory, 3, PAGES * 4096);
    if (fixture_start(&f, track, 0)) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);

        memcpy(model, memory, PAGES * 4096);
        CHECK(fixture_checkpoint(&f));
        for (uintptr_t delay_us = 0; delay_us < TOGGLE_DELAY_MAX_US; delay_us += 30) {
            pthread_t thread;

            toggle_words();
            pthread_create(&thread, NULL, toggler, (void *)delay_us);
            CHECK_OK(fixture_precopy(&f));
            pthread_join(thread, NULL);
            CHECK_OK(fixture_cut(&f));
            CHECK_OK(fixture_commit(&f));
            if (!CHECK(fixture_shows(&f, memory, model, PAGES * 4096)))
                break;
        }
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    fixture_run_by_each(&track, "what_a_program_changes_and_changes_back_is_as_it_was",
                        what_a_program_changes_and_changes_back_is_as_it_was);
    fixture_run_by_each(&track, "what_a_running_program_does_comes_right_in_the_cut",
                        what_a_running_program_does_comes_right_in_the_cut);
    return tap_done();
}
