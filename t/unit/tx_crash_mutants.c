/*
 * tx_crash_mutants.c - the hunt for crash-safety bugs of tx_crash_states.c catches each mutant of
 * core/tx/mutant.h: the sources that have them are compiled into this program.
 */
#include "core/tx/mutant.h"

static enum tx_mutant chosen, tx_mutant;
#undef TX_MUTANT
#define TX_MUTANT(name)  (tx_mutant == (name))
#define LOG_FIRST_FRAMES 4u
#include "core/tx/log.c"
#include "core/tx/opened.c"
#include "core/tx/replay.c"
#include "core/tx/transaction.c"

#include "t/lib/tap.h"
#include "t/lib/tx_crash.h"

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
};

static void spoil(bool on)
{
    tx_mutant = on ? chosen : TX_MUTANT_NONE;
}

static void every_mutant_is_caught(void)
{
    unsigned caught = 0, tried = 0;

    for (chosen = TX_MUTANT_NONE + 1; chosen < TX_MUTANT_END; chosen++)
        for (enum crash_media on = CRASH_BLOCK; on <= CRASH_DAX; on++) {
            struct tx_crash_result result = tx_crash_try(on, false, spoil);

            CHECK(result.text[0] != 0);
            tap_note("mutant '%s' on %s: state %lu: %s", mutant_names[chosen],
                     on == CRASH_DAX ? "dax" : "block", result.states, result.text);
            caught += result.text[0] != 0;
            tried++;
        }
    tap_note("mutants caught: %u of %u", caught, tried);
}

int main(int argc, char **argv)
{
    tx_crash_begin();
    tap_arguments(argc, argv);
    RUN(every_mutant_is_caught);
    tx_crash_end();
    return tap_done();
}
