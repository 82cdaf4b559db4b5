/*
 * root.c - named roots of the process's heap (heap.h): a table in the heap's header, so that every
 * generation has it.
 *
 * Always true: an entry whose name is not empty has an address within the slot.
 */
#include <errno.h>
#include <string.h>
#include "core/heap/heap.h"
#include "core/heap/slot.h"

/* "" finds the first that is not in use; NULL: there is none. */
static struct heap_root *find(struct heap *heap, const char *name)
{
    for (uint32_t i = 0; i < HEAP_ROOTS; i++)
        if (strncmp(heap->roots[i].name, name, HEAP_ROOT_NAME_BYTES) == 0)
            return &heap->roots[i];
    return NULL;
}

static int put(struct heap *heap, const char *name, const void *address, uint32_t type)
{
    struct heap_root *root = find(heap, name);

    if (!address) {
        if (root)
            memset(root, 0, sizeof *root);
        return 0;
    }
    if (!root)
        root = find(heap, "");
    if (!root)
        return STATUS_LIMIT;
    root->address = (uintptr_t)address;
    root->type = type;
    memcpy(root->name, name, strlen(name) + 1);
    return 0;
}

int heap_root_set(const char *name, const void *address, uint32_t type)
{
    struct heap *heap = heap_here();
    size_t length = strnlen(name, HEAP_ROOT_NAME_BYTES);
    int status;

    if (length == 0 || length == HEAP_ROOT_NAME_BYTES || (address && !heap_owns(address)))
        return -EINVAL;
    if (!heap)
        return 0; /* no heap yet: nothing has a name */
    heap_lock(heap, &heap->threads_lock);
    status = put(heap, name, address, type);
    heap_unlock(heap, &heap->threads_lock);
    return status;
}

void *heap_root(const char *name, uint32_t *type)
{
    struct heap *heap = heap_here();
    const struct heap_root *root;
    void *address = NULL;

    if (!heap || !name[0])
        return NULL;
    heap_lock(heap, &heap->threads_lock);
    root = find(heap, name);
    if (root) {
        address = (void *)root->address;
        if (type)
            *type = root->type;
    }
    heap_unlock(heap, &heap->threads_lock);
    return address;
}
