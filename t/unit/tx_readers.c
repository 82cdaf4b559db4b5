/*
 * tx_readers.c - heaps opened for reading while their writer goes on.
 *
 * A reader is a child: its copy of the writer's heap has to go first, since both lie in one slot.
 */
#include <errno.h>
#include <sys/wait.h>
#include "core/base/slot_choice.h"
#include "t/lib/tx_fixture.h"

static uint64_t *word;

static void store(uint64_t value)
{
    struct pheap_tx *tx = NULL;
    void *block = word;

    CHECK_OK(tx_begin(heap, &tx));
    if (!word) {
        CHECK_OK(tx_alloc(tx, sizeof *word, 1, &block));
        CHECK_OK(root_set(tx, "word", block, 1));
        word = block;
    }
    CHECK_OK(tx_add(tx, word, sizeof *word));
    *word = value;
    CHECK_OK(tx_commit(tx));
}

static void start(void)
{
    word = NULL;
    fixture_create();
    store(5);
    CHECK_EQ(fixture_checkpoint(), 2);
}

static void a_reader_sees_what_was_committed_when_it_opened(void)
{
    int status = 1;

    start();
    store(6);
    if (fork() == 0) {
        struct pheap_tx *tx = NULL;
        struct pheap *reader;
        bool fine = tx_begin(heap, &tx) == -ESRCH;

        fine = fixture_open_path(&reader, fixture_path, true) == -EEXIST && fine;
        slot_memory_release(&heap->memory);
        fine = fixture_open_path(&reader, fixture_path, true) == 0 && fine;
        fine = fine && *word == 6 && root_find(reader, "word", NULL) == word;
        _exit(fine && tx_begin(reader, &tx) == -EROFS ? 0 : 1);
    }
    wait(&status);
    CHECK_EQ(status, 0);
    CHECK_EQ(fixture_open_path(&(struct pheap *){NULL}, fixture_path, false), STATUS_IN_USE);
    fixture_close();
}

/* Returns the exit status: 0, it saw 7; 2, it could not read. */
static int read_late(const int *at, const int *gone_on)
{
    struct pheap *reader;
    char letter;

    slot_memory_release(&heap->memory);
    if (opened_attach(&reader, fixture_path, true, &why) < 0 || write(at[1], "a", 1) != 1 ||
        read(gone_on[0], &letter, 1) != 1)
        return 1;
    if (opened_load(reader, &why) < 0)
        return 2;
    return *word == 7 ? 0 : 3;
}

/* Between its look at the superblock and its lock on what that lists. */
static void a_reader_whose_generation_is_dropped_meanwhile_takes_a_newer_one(void)
{
    int at[2], gone_on[2], status = 1;
    char letter;

    start();
    CHECK_EQ(pipe(at) | pipe(gone_on), 0);
    if (fork() == 0)
        _exit(read_late(at, gone_on));
    CHECK_EQ(read(at[0], &letter, 1), 1);
    for (uint64_t number = 3; number < 8; number++)
        CHECK_EQ(fixture_checkpoint(), number);
    store(7);
    CHECK_EQ(write(gone_on[1], "g", 1), 1);
    wait(&status);
    CHECK_EQ(WEXITSTATUS(status), 0);
    for (unsigned i = 0; i < 2; i++) {
        close(at[i]);
        close(gone_on[i]);
    }
    fixture_close();
}

static void a_slot_that_is_chosen_is_free(void)
{
    static struct slot_memory taken[SLOTS_FOR_OPENED];

    for (unsigned i = 0; i < SLOTS_FOR_OPENED; i++) {
        uint32_t slot = slot_memory_choose();

        CHECK(slot >= SLOT_OPENED_FIRST && slot <= SLOT_LAST);
        CHECK_OK(slot_memory_reserve(&taken[i], slot));
    }
    CHECK(slot_memory_choose() < SLOT_OPENED_FIRST);
    for (unsigned i = 0; i < SLOTS_FOR_OPENED; i++)
        slot_memory_release(&taken[i]);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(a_reader_sees_what_was_committed_when_it_opened);
    RUN(a_reader_whose_generation_is_dropped_meanwhile_takes_a_newer_one);
    RUN(a_slot_that_is_chosen_is_free);
    fixture_end();
    return tap_done();
}
