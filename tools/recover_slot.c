/*
 * recover_slot.c - pheap recover --clone --slot N: whether a pool's memory could lie elsewhere. It
 * cannot while anything in it is an address: refused by name, with an example.
 */
#include <inttypes.h>
#include "recovery/view/opened_heap.h"
#include "recovery/view/search.h"
#include "tools/recover.h"

struct looking {
    uint64_t data; /* where blocks begin */
    uint64_t words, example, value;
};

static bool note_word(void *context, uint64_t address, uint64_t value)
{
    struct looking *looking = context;

    if (address < looking->data)
        return true; /* named roots: they could be told anew */
    if (looking->words++ == 0) {
        looking->example = address;
        looking->value = value;
    }
    return true;
}

static int judge_opened(struct view *view, struct problem *why)
{
    uint64_t base = view_slot_base(view);
    struct looking looking = {.data = base + (uint64_t)TX_DATA_SLICE * SLICE_BYTES};
    int status = search_words(view, base, base + SLOT_BYTES, note_word, &looking, why);

    if (status < 0)
        return status;
    if (looking.words > 0)
        return problem_set(why, STATUS_REFUSED,
                           "%s: %" PRIu64 " words of the heap are addresses in it, as 0x%" PRIx64
                           " at 0x%" PRIx64 ": it can lie in slot %" PRIu32 " alone; --clone "
                           "without --slot copies it",
                           view->pool.path, looking.words, looking.value, looking.example,
                           view->generation.slot);
    return problem_set(why, STATUS_UNSUPPORTED,
                       "%s: nothing in the heap is an address, but moving a heap to another slot "
                       "is not supported; --clone without --slot copies it",
                       view->pool.path);
}

int recover_judge_slot(const char *path, struct problem *why)
{
    static struct view view;
    int status = view_open(&view, path, 0, why);

    if (status == 0)
        status = view_map_heap(&view, why);
    if (status == 0 && !view.is_opened)
        status = problem_set(why, STATUS_REFUSED,
                             "%s: it holds a program's checkpoints, whose registers, stacks and "
                             "data hold addresses: its heap can lie in slot %" PRIu32 " alone; "
                             "--clone without --slot copies it",
                             path, view.generation.slot);
    else if (status == 0)
        status = judge_opened(&view, why);
    view_close(&view);
    return status;
}
