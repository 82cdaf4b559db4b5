/*
 * roots.c - see roots.h.
 */
#include "recovery/view/roots.h"

#include <string.h>
#include "core/heap/heap_format.h"
#include "recovery/view/opened_heap.h"
#include "recovery/view/thread_state.h"

struct enumerating {
    struct view *view;
    root_visit *visit;
    void *context;
    uint64_t skip_start, skip_end; /* below the stack pointer in [stack] */
    const struct image_mapping *mapping;
    struct root root;
};

/* --- memory --- */

static void name_page(struct enumerating *to, uint64_t address)
{
    const struct image_mapping *mapping = to->mapping;

    if (mapping && address >= mapping->record->start && address < mapping->record->end)
        return;
    mapping = view_mapping(to->view, address);
    to->mapping = mapping;
    to->root = (struct root){.kind = ROOT_MEMORY,
                             .id = mapping ? mapping->record->start : 0,
                             .name = mapping ? view_mapping_name(to->view, mapping) : ""};
}

static int visit_page(void *context, uint64_t address, const uint8_t *page)
{
    struct enumerating *to = context;
    uint64_t first = 0;

    name_page(to, address);
    if (address >= to->skip_start && address < to->skip_end)
        first = to->skip_end - address < PAGE_BYTES ? to->skip_end - address : PAGE_BYTES;
    to->visit(to->context, &to->root, page + first, PAGE_BYTES - first);
    return 0;
}

/* Nothing is kept below the red zone of the one thread that runs on [stack]. */
static void find_dead_stack(struct enumerating *to)
{
    const struct process_image *process = &to->view->process;

    for (uint32_t i = 0; i < process->thread_count; i++) {
        uint64_t rsp = process->threads[i].record->registers[REG_RSP];
        const struct image_mapping *mapping = view_mapping(to->view, rsp);

        if (!mapping || !(mapping->record->flags & RECORD_MAPPING_GROWS_DOWN) ||
            rsp - 128 < mapping->record->start)
            continue;
        to->skip_start = mapping->record->start;
        to->skip_end = (rsp - 128) & ~7ull;
    }
}

static int visit_memory(struct enumerating *to, struct problem *why)
{
    uint64_t slot = view_slot_base(to->view);
    int status;

    find_dead_stack(to);
    status = view_each_page(to->view, 0, slot, visit_page, to, why);
    if (status < 0)
        return status;
    return view_each_page(to->view, slot + SLOT_BYTES, PROCESS_ADDRESS_LIMIT, visit_page, to, why);
}

/* --- records --- */

static void visit_threads(struct enumerating *to)
{
    const struct process_image *process = &to->view->process;

    for (uint32_t i = 0; i < process->thread_count; i++) {
        const struct record_thread *thread = process->threads[i].record;
        const struct root root = {
            .kind = ROOT_REGISTERS, .id = (uint64_t)(uint32_t)thread->tid, .name = ""};

        to->visit(to->context, &root, thread, sizeof *thread);
        to->visit(to->context, &root, process->threads[i].xstate, thread->xstate_bytes);
    }
}

static void visit_sockets(struct enumerating *to)
{
    const struct process_image *process = &to->view->process;
    struct root root = {.kind = ROOT_SOCKET, .name = ""};

    for (uint32_t i = 0; i < process->socket_count; i++) {
        const struct image_socket *socket = &process->sockets[i];

        root.id = i;
        for (uint32_t k = 0; k < socket->message_count; k++)
            to->visit(to->context, &root, socket->messages[k].content, socket->messages[k].bytes);
    }
}

static void visit_shared_memory(struct enumerating *to)
{
    const struct process_image *process = &to->view->process;
    struct root root = {.kind = ROOT_OBJECT, .name = ""};

    for (uint32_t i = 0; i < process->object_count; i++) {
        const struct image_object *object = &process->objects[i];

        root.id = i;
        for (uint32_t k = 0; k < object->part_count; k++)
            to->visit(to->context, &root, object->parts[k].content, object->parts[k].bytes);
    }
}

static void visit_objects(struct enumerating *to)
{
    const struct process_image *process = &to->view->process;
    struct root root = {.kind = ROOT_EPOLL, .name = ""};

    for (uint32_t i = 0; i < process->watch_count; i++)
        to->visit(to->context, &root, &process->watches[i]->data, sizeof process->watches[i]->data);
    root.kind = ROOT_TIMERS;
    for (uint32_t i = 0; i < process->posix_timer_count; i++)
        to->visit(to->context, &root, &process->posix_timers[i]->value, 8);
    root.kind = ROOT_SIGNALS;
    for (uint32_t i = 0; i < process->pending_count; i++)
        to->visit(to->context, &root, process->pending[i]->siginfo, RECORD_SIGINFO_BYTES);
    root.kind = ROOT_PIPE;
    for (uint32_t i = 0; i < process->pipe_count; i++) {
        root.id = i;
        to->visit(to->context, &root, process->pipes[i].content,
                  process->pipes[i].record->content_bytes);
    }
    visit_sockets(to);
    visit_shared_memory(to);
}

static void visit_named(void *context, const char *name, uint64_t address, uint32_t type)
{
    struct enumerating *to = context;
    const struct root root = {.kind = ROOT_NAMED, .name = name, .type = type, .address = address};

    to->visit(to->context, &root, &address, sizeof address);
}

/* Those of a program's own heap, in its header: believed no more than anything else there. */
static void visit_heap_roots(struct enumerating *to)
{
    const struct heap *heap = (const struct heap *)view_slot_base(to->view);

    for (uint32_t i = 0; !to->view->is_opened && i < HEAP_ROOTS; i++) {
        char name[HEAP_ROOT_NAME_BYTES + 1] = "";

        memcpy(name, heap->roots[i].name, HEAP_ROOT_NAME_BYTES);
        if (name[0])
            visit_named(to, name, heap->roots[i].address, heap->roots[i].type);
    }
}

int roots_each(struct view *view, root_visit *visit, void *context, struct problem *why)
{
    struct enumerating to = {.view = view, .visit = visit, .context = context, .root.name = ""};

    opened_each_root(view, visit_named, &to);
    visit_heap_roots(&to);
    visit_threads(&to);
    visit_objects(&to);
    return visit_memory(&to, why);
}
