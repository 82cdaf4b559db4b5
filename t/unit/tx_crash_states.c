/*
 * tx_crash_states.c - a power cut at every point of a heap's life leaves the transactions that were
 * acknowledged, all of each, and of the one in flight all or nothing. On a block device and on
 * persistent memory.
 */
#include "t/lib/tx_crash_judge.h"

static void survive_a_cut_at_every_point(enum crash_media on)
{
    unsigned long states;
    struct verdict verdict = try_scenario(on, TX_MUTANT_NONE, true, &states);

    CHECK_STR(text, "");
    CHECK(states > 1500 && verdict.written > 100 && verdict.nested_states > 300);
    tap_note("%s, seed %d: %zu operations, %u acknowledged, %lu states, %lu of them gone on with, "
             "%lu states of cuts during that",
             on == CRASH_DAX ? "dax" : "block", SEED, scenario.recording.count, scenario.ack_count,
             states, verdict.written, verdict.nested_states);
}

static void acknowledged_transactions_survive_a_cut_at_every_point(void)
{
    survive_a_cut_at_every_point(CRASH_BLOCK);
}

static void so_they_do_on_persistent_memory(void)
{
    survive_a_cut_at_every_point(CRASH_DAX);
}

static void what_a_torn_group_has_left_does_not_come_to_life(void)
{
    try_leftovers(TX_MUTANT_NONE);
    CHECK_STR(text, "");
}

int main(int argc, char **argv)
{
    if (!tx_crash_begin())
        return 1;
    tap_arguments(argc, argv);
    RUN(acknowledged_transactions_survive_a_cut_at_every_point);
    RUN(so_they_do_on_persistent_memory);
    RUN(what_a_torn_group_has_left_does_not_come_to_life);
    tx_crash_end();
    return tap_done();
}
