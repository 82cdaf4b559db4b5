/*
 * tx_crash_states.c - a power cut at every point of a heap's life leaves the transactions that were
 * acknowledged, all of each, and of the one in flight all or nothing. On a block device and on
 * persistent memory.
 */
/* A small first log, so that it has to grow. */
#define LOG_FIRST_FRAMES 4u
#include "core/tx/opened.c"

#include "t/lib/tap.h"
#include "t/lib/tx_crash.h"

static void survive_a_cut_at_every_point(enum crash_media on)
{
    struct tx_crash_result result = tx_crash_try(on, true, NULL);

    CHECK_STR(result.text, "");
    CHECK(result.states > 1500 && result.written > 100 && result.nested_states > 300);
    tap_note("%s, seed %d: %zu operations, %u acknowledged, %lu states, %lu of them gone on with, "
             "%lu states of cuts during that",
             on == CRASH_DAX ? "dax" : "block", TX_CRASH_SEED, result.operations,
             result.acknowledged, result.states, result.written, result.nested_states);
}

static void acknowledged_transactions_survive_a_cut_at_every_point(void)
{
    survive_a_cut_at_every_point(CRASH_BLOCK);
}

static void so_they_do_on_persistent_memory(void)
{
    survive_a_cut_at_every_point(CRASH_DAX);
}

int main(int argc, char **argv)
{
    tx_crash_begin();
    tap_arguments(argc, argv);
    RUN(acknowledged_transactions_survive_a_cut_at_every_point);
    RUN(so_they_do_on_persistent_memory);
    tx_crash_end();
    return tap_done();
}
