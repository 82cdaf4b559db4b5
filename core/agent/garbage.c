/*
 * garbage.c - what a checkpoint need not write: what lies below the stack pointers in [stack], and
 * what the heap has no use for (image_writer_set_garbage()).
 *
 * Always true of what is said inside the freeze: no thread's stack pointer lies in it. A program
 * may have freed the stack that it stands on, to leave it in a moment.
 */
#include "core/agent/agent_state.h"

#include "core/base/sys.h"
#include "core/heap/heap.h"

#define RED_ZONE_BYTES 128u /* below the stack pointer, a function's own (System V ABI) */

/*
 * What lies below the red zone of the stack pointers in [stack] itself. Elsewhere nothing is known
 * of what a stack is, and a thread whose pointer is not in [stack] may have left things there.
 */
void garbage_of_stack(struct agent *agent, const struct address_space *space)
{
    const struct freeze *freeze = &agent->freeze;
    const struct mapping *stack = NULL;
    uintptr_t lowest = UINTPTR_MAX;

    agent->stack_garbage = (struct address_range){0, 0};
    for (uint32_t i = 0; i < space->count && stack == NULL; i++)
        if (space->mappings[i].grows_down)
            stack = &space->mappings[i];
    for (uint32_t i = 0; i < freeze->count && stack != NULL; i++) {
        uintptr_t pointer = freeze->tracees[i].regs.rsp;

        if (pointer >= stack->start && pointer < stack->end && pointer < lowest)
            lowest = pointer;
    }
    if (stack == NULL || lowest == UINTPTR_MAX || lowest - RED_ZONE_BYTES < stack->start)
        return;
    agent->stack_garbage.start = stack->start;
    agent->stack_garbage.end = (lowest - RED_ZONE_BYTES) & -(uintptr_t)PAGE_BYTES;
}

struct finding {
    const struct agent *agent;
    bool stopped;
    struct page_span *out;
    uint32_t count, limit;
};

static bool is_stood_on(const struct freeze *freeze, uintptr_t start, uintptr_t end)
{
    for (uint32_t i = 0; i < freeze->count; i++) {
        uintptr_t pointer = freeze->tracees[i].regs.rsp;

        if (pointer >= start && pointer - RED_ZONE_BYTES <= end)
            return true;
    }
    return false;
}

/* What there is no room for is not garbage. */
static bool take(void *context, uintptr_t start, uintptr_t end)
{
    struct finding *finding = context;
    struct page_span span = {(start + PAGE_BYTES - 1) >> PAGE_SHIFT, end >> PAGE_SHIFT};

    if (span.page < span.end && finding->count < finding->limit &&
        !(finding->stopped && is_stood_on(&finding->agent->freeze, start, end)))
        finding->out[finding->count++] = span;
    return true;
}

uint32_t garbage_find(void *context, bool stopped, struct page_span *out, uint32_t limit)
{
    const struct agent *agent = context;
    struct finding finding = {agent, stopped, out, 0, limit};

    if (!heap_each_garbage(take, &finding))
        finding.count = 0; /* a thread was stopped while it changed the spans */
    if (agent->stack_garbage.start < agent->stack_garbage.end && finding.count < limit)
        out[finding.count++] = (struct page_span){agent->stack_garbage.start >> PAGE_SHIFT,
                                                  agent->stack_garbage.end >> PAGE_SHIFT};
    return finding.count;
}
