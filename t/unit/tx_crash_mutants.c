/*
 * tx_crash_mutants.c - the hunt for crash-safety bugs of tx_crash_states.c catches each mutant of
 * core/tx/mutant.h.
 */
#include "t/lib/tx_crash_judge.h"

static const char *const mutant_names[TX_MUTANT_END] = {
    [TX_MUTANT_COMMIT_WITHOUT_SYNC] = "a commit without a sync",
    [TX_MUTANT_RECORD_APPLIED_TWICE] = "a record applied twice",
    [TX_MUTANT_UNDO_NOT_APPLIED] = "undo not applied",
    [TX_MUTANT_LOG_NOT_CUT] = "a log that goes on behind a generation",
    [TX_MUTANT_LEFTOVERS_COUNT] = "records that older logs have left",
    [TX_MUTANT_CHECKSUM_NOT_CHECKED] = "torn records that count",
    [TX_MUTANT_FREE_AT_ONCE] = "blocks free before the commit",
    [TX_MUTANT_NEW_BLOCK_NOT_WRITTEN] = "new blocks not in the record",
    [TX_MUTANT_GROWTH_NOT_LISTED] = "a log's growth that is not listed",
    [TX_MUTANT_PREDECESSORS_NOT_AWAITED] = "a record durable before the one before it",
    [TX_MUTANT_HOLES_ARE_DAMAGE] = "what a crash has torn taken for damage",
    [TX_MUTANT_SPACE_FREE_AT_CUT] = "a log's space used again too early",
    [TX_MUTANT_CUT_WHILE_OPEN] = "a cut while a transaction is open",
    [TX_MUTANT_SPAN_NOT_RECORDED] = "spans that are not in the log",
    [TX_MUTANT_LANE_NOT_FENCED] = "a lane's record that is not durable",
    [TX_MUTANT_STAMPS_ALL_THE_SAME] = "lanes without an order",
    [TX_MUTANT_LANES_OUTLIVE_CUTS] = "a lane of before the cut",
    [TX_MUTANT_LANES_OUTLIVE_SESSION] = "a session put among the lanes of the one before",
    [TX_MUTANT_SESSION_GOES_ON] = "a session that goes on after opening",
};

static bool does_not_apply(enum tx_mutant mutant, enum crash_media on)
{
    bool is_of_lanes =
        mutant >= TX_MUTANT_LANE_NOT_FENCED && mutant <= TX_MUTANT_LANES_OUTLIVE_SESSION;

    return (on == CRASH_BLOCK && (mutant == TX_MUTANT_PREDECESSORS_NOT_AWAITED || is_of_lanes)) ||
           (on == CRASH_DAX &&
            (mutant == TX_MUTANT_LEFTOVERS_COUNT || mutant == TX_MUTANT_SESSION_GOES_ON));
}

static void every_mutant_is_caught(void)
{
    unsigned caught = 0, tried = 0;
    unsigned long states = 0;

    for (enum tx_mutant mutant = TX_MUTANT_NONE + 1; mutant < TX_MUTANT_END; mutant++)
        for (enum crash_media on = CRASH_BLOCK; mutant_names[mutant] && on <= CRASH_DAX; on++) {
            if (does_not_apply(mutant, on))
                continue;
            if (mutant == TX_MUTANT_LEFTOVERS_COUNT || mutant == TX_MUTANT_SESSION_GOES_ON)
                try_leftovers(mutant);
            else
                (void)try_scenario(on, mutant, false, &states);
            CHECK(text[0] != 0);
            tap_note("mutant '%s' on %s: state %lu: %s", mutant_names[mutant],
                     on == CRASH_DAX ? "dax" : "block", states, text);
            caught += text[0] != 0;
            tried++;
        }
    tap_note("mutants caught: %u of %u", caught, tried);
}

int main(int argc, char **argv)
{
    if (!tx_crash_begin())
        return 1;
    tap_arguments(argc, argv);
    RUN(every_mutant_is_caught);
    tx_crash_end();
    return tap_done();
}
