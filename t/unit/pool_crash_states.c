/*
 * pool_crash_states.c - a power cut at every point of a pool's life leaves the generations that
 * were acknowledged whole and readable, and the one in flight there or not there. For an ordinary
 * file on a block device, for one on persistent memory, and for one of which only the beginning
 * could be mapped.
 */
#include "t/lib/pool_crash.h"
#include "t/lib/tap.h"

static void survive_a_cut_at_every_point(const struct pool_medium *on)
{
    struct pool_crash_result result = pool_crash_try(on, true, NULL);

    CHECK_STR(result.broken, "");
    CHECK_STR(result.text, "");
    CHECK(result.states > 5000 && result.written > 100 && result.nested_states > 500);
    tap_note("%s, seed %d: %zu operations, %lu states, %lu of them committed to again, %lu states "
             "of cuts during that",
             on->name, POOL_CRASH_SEED, result.operations, result.states, result.written,
             result.nested_states);
}

static void acknowledged_generations_survive_a_cut_at_every_point(void)
{
    survive_a_cut_at_every_point(&pool_on_block);
}

static void so_they_do_on_persistent_memory(void)
{
    survive_a_cut_at_every_point(&pool_on_dax);
}

static void so_they_do_where_a_part_is_mapped(void)
{
    survive_a_cut_at_every_point(&pool_on_dax_in_part);
}

int main(int argc, char **argv)
{
    pool_crash_begin();
    tap_arguments(argc, argv);
    RUN(acknowledged_generations_survive_a_cut_at_every_point);
    RUN(so_they_do_on_persistent_memory);
    RUN(so_they_do_where_a_part_is_mapped);
    pool_crash_end();
    return tap_done();
}
