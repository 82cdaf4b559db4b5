/*
 * pool_crash_mutants.c - the hunt for crash-safety bugs of pool_crash_states.c catches each mutant
 * of core/pool/mutant.h: the sources that have them are compiled into this program.
 */
#include "core/pool/mutant.h"

static enum pool_mutant chosen, pool_mutant;
#undef POOL_MUTANT
#define POOL_MUTANT(name) (pool_mutant == (name))
#include "core/pool/frame.c"
#include "core/pool/persist_dax.c"
#include "core/pool/pool_commit.c"

#include "t/lib/pool_crash.h"
#include "t/lib/tap.h"

static void spoil(bool on)
{
    pool_mutant = on ? chosen : MUTANT_NONE;
}

static bool is_caught(const struct pool_medium *on, enum pool_mutant mutant, const char *name)
{
    struct pool_crash_result result;

    chosen = mutant;
    result = pool_crash_try(on, false, spoil);
    CHECK(result.text[0] != 0);
    tap_note("mutant '%s' on %s: state %lu: %s", name, on->name, result.states, result.text);
    return result.text[0] != 0;
}

static void every_mutant_is_caught(void)
{
    static const char *const names[MUTANT_END] = {
        [MUTANT_SUPERBLOCK_BEFORE_SYNC] = "superblock before sync",
        [MUTANT_NO_FINAL_SYNC] = "no final sync",
        [MUTANT_DROPPED_REUSED_EARLY] = "frames of a dropped generation reused too early",
        [MUTANT_RELEASED_REUSED_AT_ONCE] = "replaced frames reused at once",
        [MUTANT_ONE_SUPERBLOCK_SLOT] = "one superblock slot",
        [MUTANT_RECORD_AFTER_SYNC] = "record written after the sync",
        [MUTANT_DAX_NO_DRAIN] = "a sync without a fence",
        [MUTANT_DAX_NO_FLUSH] = "stores that stay in the cache",
        [MUTANT_DAX_GROWTH_NOT_SYNCED] = "a growth that is not synced",
        [MUTANT_DAX_FILE_NOT_SYNCED] = "what is not mapped is not synced",
    };
    unsigned caught = 0, tried = 0;

    for (enum pool_mutant mutant = MUTANT_NONE + 1; mutant < MUTANT_END; mutant++) {
        const struct pool_medium *on =
            mutant == MUTANT_DAX_FILE_NOT_SYNCED ? &pool_on_dax_in_part : &pool_on_dax;

        if (mutant < MUTANT_OF_DAX) {
            caught += is_caught(&pool_on_block, mutant, names[mutant]);
            tried++;
        }
        caught += is_caught(on, mutant, names[mutant]);
        tried++;
    }
    tap_note("mutants caught: %u of %u", caught, tried);
}

int main(int argc, char **argv)
{
    pool_crash_begin();
    tap_arguments(argc, argv);
    RUN(every_mutant_is_caught);
    pool_crash_end();
    return tap_done();
}
