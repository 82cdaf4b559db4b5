/*
 * move.c - see move.h: what is in the heap, whether it can move, and its addresses made those of
 * the new slot, in private memory.
 *
 * True always: no word of an object in use that is an address in the heap stays as it is; so a heap
 * with one that nobody has told of as a pointer does not move.
 */
#include "recovery/move/move.h"

#include <inttypes.h>
#include <string.h>
#include "core/tx/types.h"
#include "recovery/move/moving.h"
#include "recovery/view/layouts.h"
#include "recovery/view/opened_heap.h"

struct addresses {
    struct block_map map;
    struct layouts layouts;
    uint64_t base, delta;
    uint64_t words, example, value; /* that are not known to be pointers */
};

static bool leads_into(const struct addresses *addresses, uint64_t word)
{
    return word - addresses->base < SLOT_BYTES;
}

/* --- looking --- */

static void ignore(void *context, uint64_t place, uint32_t kind, uint64_t target)
{
    (void)context, (void)place, (void)kind, (void)target;
}

static bool look_through(void *context, const struct block *block)
{
    struct addresses *addresses = context;
    const uint64_t *words = (const uint64_t *)block->address;

    if (layouts_each(&addresses->layouts, block->address, ignore, NULL))
        return true;
    for (uint64_t i = 0; i < block->bytes / 8; i++)
        if (leads_into(addresses, words[i]) && addresses->words++ == 0) {
            addresses->example = block->address + i * 8;
            addresses->value = words[i];
        }
    return true;
}

static int judge_words(const struct view *view, struct addresses *addresses, struct problem *why)
{
    block_map_each(&addresses->map, addresses->map.used, look_through, addresses);
    if (addresses->words == 0)
        return 0;
    return problem_set(why, STATUS_REFUSED,
                       "%s: %" PRIu64 " words of the heap are addresses in it, as 0x%" PRIx64
                       " at 0x%" PRIx64 ", in objects whose pointers are not known: it can lie in "
                       "slot %" PRIu32 " alone; --clone without --slot copies it",
                       view->pool.path, addresses->words, addresses->value, addresses->example,
                       view->generation.slot);
}

static int judge_kind(const struct view *view, struct problem *why)
{
    if (view->is_opened)
        return 0;
    return problem_set(why, STATUS_REFUSED,
                       "%s: it holds a program's checkpoints, whose registers, stacks and data "
                       "hold addresses: its heap can lie in slot %" PRIu32 " alone; --clone "
                       "without --slot copies it",
                       view->pool.path, view->generation.slot);
}

/* --- changing --- */

static void change_pointer(void *context, uint64_t place, uint32_t kind, uint64_t target)
{
    struct addresses *addresses = context;

    if (kind == TX_POINTER_RAW && leads_into(addresses, target))
        *(uint64_t *)place = target + addresses->delta;
}

static bool change_block(void *context, const struct block *block)
{
    struct addresses *addresses = context;

    (void)layouts_each(&addresses->layouts, block->address, change_pointer, addresses);
    return true;
}

/* What other heaps ask the original for, nobody asks its clone. */
static void change_tables(const struct addresses *addresses)
{
    struct tx_root *roots = (struct tx_root *)(addresses->base + TX_ROOTS_OFFSET);

    for (uint32_t i = 0; i < TX_ROOTS; i++)
        if (leads_into(addresses, roots[i].address))
            roots[i].address += addresses->delta;
    memset((void *)(addresses->base + TX_DECISIONS_OFFSET), 0,
           TX_DECISIONS * sizeof(struct tx_decision));
}

static int change_all(struct view *view, struct addresses *addresses, uint32_t slot,
                      struct problem *why)
{
    int status;

    addresses->base = view_slot_base(view);
    addresses->delta = SLOT_BASE(slot) - addresses->base;
    layouts_load(&addresses->layouts, &addresses->map);
    status = judge_words(view, addresses, why);
    if (status < 0)
        return status;
    block_map_each(&addresses->map, addresses->map.used, change_block, addresses);
    change_tables(addresses);
    return 0;
}

/* --- in order --- */

static int move_view(struct view *view, struct moving *moving, struct problem *why)
{
    static struct addresses addresses;
    int status;

    memset(&addresses, 0, sizeof addresses);
    status = block_map_build_whole(&addresses.map, view, "nothing is copied", why);
    if (status == 0)
        status = judge_kind(view, why);
    if (status == 0)
        status = change_all(view, &addresses, moving->slot, why);
    if (status < 0)
        return status;
    moving->from = addresses.base;
    moving->slices = addresses.map.top;
    moving->keep = view->pool.super.keep;
    return moving_write(moving, why);
}

int pool_move(const char *path, const char *to, uint32_t slot, struct problem *why)
{
    struct moving moving = {.slot = slot, .to = to};
    static struct pool locked;
    static struct view view;
    int status = pool_open(&locked, path, POOL_WRITE, why);

    if (status < 0)
        return status;
    status = view_open(&view, path, 0, why);
    if (status == 0)
        status = move_view(&view, &moving, why);
    view_close(&view);
    pool_close(&locked);
    return status;
}
