/*
 * roots.c - see roots.h. A root is 64 bytes that a transaction adds and stores to as a program
 * would.
 */
#include "core/tx/roots.h"

#include <errno.h>
#include <string.h>
#include "core/tx/opened.h"
#include "core/tx/transaction.h"

static struct tx_root *roots_of(const struct pheap *heap)
{
    return (struct tx_root *)(heap->memory.base + TX_ROOTS_OFFSET);
}

/* "" finds the first that is not in use. */
static struct tx_root *find(const struct pheap *heap, const char *name)
{
    struct tx_root *roots = roots_of(heap);

    for (uint32_t i = 0; i < TX_ROOTS; i++)
        if (strncmp(roots[i].name, name, TX_NAME_BYTES) == 0)
            return &roots[i];
    return NULL;
}

static bool is_in_data(const struct pheap *heap, const void *address)
{
    uintptr_t data = heap->memory.base + (uint64_t)TX_DATA_SLICE * SLICE_BYTES;

    return (uintptr_t)address >= data &&
           slot_memory_may_write(&heap->memory, (uintptr_t)address, 1);
}

int root_set(struct pheap_tx *tx, const char *name, const void *address, uint32_t type)
{
    const struct pheap *heap = tx_heap(tx);
    size_t length = strnlen(name, TX_NAME_BYTES);
    struct tx_root *root;
    int status;

    if (length == 0 || length == TX_NAME_BYTES || (address && !is_in_data(heap, address)))
        return -EINVAL;
    root = find(heap, name);
    if (!root && !address)
        return 0;
    if (!root)
        root = find(heap, "");
    if (!root)
        return STATUS_LIMIT;
    status = tx_add(tx, root, sizeof *root);
    if (status < 0)
        return status;
    *root = (struct tx_root){.address = (uintptr_t)address, .type = address ? type : 0};
    if (address)
        memcpy(root->name, name, length);
    return 0;
}

void *root_find(const struct pheap *heap, const char *name, uint32_t *type)
{
    const struct tx_root *root = name[0] ? find(heap, name) : NULL;

    if (root && type)
        *type = root->type;
    return root ? (void *)root->address : NULL;
}
