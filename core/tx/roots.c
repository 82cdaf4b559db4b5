/*
 * roots.c - see roots.h. A root is 64 bytes that a transaction reads and writes as a program would.
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

/* As the transaction sees it; "" finds the first that is not in use. *place NULL: there is none. */
static int look_up(struct pheap_tx *tx, const char *name, struct tx_root **place,
                   struct tx_root *root)
{
    struct tx_root *roots = roots_of(tx_heap(tx));
    int status = 0;

    *place = NULL;
    for (uint32_t i = 0; status == 0 && i < TX_ROOTS; i++) {
        status = tx_read(tx, root, &roots[i], sizeof *root);
        if (status == 0 && strncmp(root->name, name, TX_NAME_BYTES) == 0) {
            *place = &roots[i];
            break;
        }
    }
    return status;
}

int root_set(struct pheap_tx *tx, const char *name, const void *address, uint32_t type)
{
    size_t length = strnlen(name, TX_NAME_BYTES);
    struct tx_root *place, root;
    int status;

    if (length == 0 || length == TX_NAME_BYTES || (address && !is_in_data(tx_heap(tx), address)))
        return -EINVAL;
    status = look_up(tx, name, &place, &root);
    if (status < 0 || (!place && !address))
        return status;
    if (!place)
        status = look_up(tx, "", &place, &root);
    if (status < 0 || !place)
        return status < 0 ? status : (int)STATUS_LIMIT;
    root = (struct tx_root){.address = (uintptr_t)address, .type = address ? type : 0};
    if (address)
        memcpy(root.name, name, length);
    return tx_write(tx, place, &root, sizeof root);
}

int root_get(struct pheap_tx *tx, const char *name, void **address, uint32_t *type)
{
    struct tx_root *place = NULL, root;
    int status = name[0] ? look_up(tx, name, &place, &root) : 0;

    if (status < 0)
        return status;
    *address = place ? (void *)root.address : NULL;
    if (place && type)
        *type = root.type;
    return 0;
}

void *root_find(const struct pheap *heap, const char *name, uint32_t *type)
{
    const struct tx_root *root = name[0] ? find(heap, name) : NULL;

    if (root && type)
        *type = root->type;
    return root ? (void *)root->address : NULL;
}
