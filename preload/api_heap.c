/*
 * api_heap.c - the functions of core/pheap.h for heaps that the program opens by itself.
 *
 * Always true: errno is as the caller had it.
 */
#include "core/pheap.h"

#include <errno.h>
#include <string.h>
#include "core/agent/heap_agent.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/tx/opened.h"
#include "core/tx/refs.h"
#include "core/tx/resize.h"
#include "core/tx/roots.h"
#include "core/tx/transaction.h"
#include "core/tx/types.h"
#include "preload/program.h"

#define KEEP_DEFAULT          3
#define CHECKPOINT_TIMEOUT_NS 5000000000u
#define INTERVAL_MS           10000u
#define NS_PER_MS             1000000ull
#define LOCK_PATIENCE_NS      5000000000ull
#define LOCK_RETRY_NS         2000000

_Static_assert((int)PHEAP_ERROR_NOT_A_POOL == (int)STATUS_NOT_A_POOL, "as in status.h");
_Static_assert((int)PHEAP_ERROR_DAMAGED == (int)STATUS_DAMAGED, "as in status.h");
_Static_assert((int)PHEAP_ERROR_NEWER_FORMAT == (int)STATUS_NEWER_FORMAT, "as in status.h");
_Static_assert((int)PHEAP_ERROR_IN_USE == (int)STATUS_IN_USE, "as in status.h");
_Static_assert((int)PHEAP_ERROR_NOT_OWNER == (int)STATUS_NOT_OWNER, "as in status.h");
_Static_assert((int)PHEAP_ERROR_NO_GENERATION == (int)STATUS_NO_GENERATION, "as in status.h");
_Static_assert((int)PHEAP_ERROR_REFUSED == (int)STATUS_REFUSED, "as in status.h");
_Static_assert((int)PHEAP_ERROR_LIMIT == (int)STATUS_LIMIT, "as in status.h");
_Static_assert((int)PHEAP_ERROR_CONFLICT == (int)STATUS_CONFLICT, "as in status.h");
_Static_assert((int)PHEAP_ERROR_IN_DOUBT == (int)STATUS_IN_DOUBT, "as in status.h");

/* The process's own heap: what asks whether it may be changed in transactions finds the answer in
 * it, all else asks api_is_default() first. */
static struct pheap process_heap = {.failed = STATUS_REFUSED};

static bool api_is_default(const struct pheap *heap)
{
    return heap == &process_heap;
}

/* A forked child's -ESRCH, as pheap_checkpoint() has it. */
static int explained(int status)
{
    return status == -ESRCH ? (int)PHEAP_ERROR_NO_POOL : status;
}

static void tell(const struct pheap_options *options, const struct problem *why)
{
    size_t bytes;

    if (!options || !options->problem || options->problem_bytes == 0)
        return;
    bytes = strnlen(why->text, options->problem_bytes - 1);
    memcpy(options->problem, why->text, bytes);
    options->problem[bytes] = 0;
}

/* A checkpoint would hold the heap as memory and the pool as an open file: resumed, the program
 * would go on with a heap that is older than its pool. */
static int refuse_if_checkpointed(unsigned flags, struct problem *why)
{
    if ((flags & PHEAP_READ_ONLY) || !program_owns_pool())
        return 0;
    return problem_set(why, STATUS_UNSUPPORTED,
                       "this process is itself checkpointed: it may open heaps for reading only");
}

static int make_pool(const char *path, const struct pheap_options *options, struct problem *why)
{
    uint32_t slot = options && options->slot ? options->slot : slot_memory_choose();
    uint32_t keep = options && options->keep ? options->keep : KEEP_DEFAULT;

    return pool_create(path, slot, keep, why);
}

/* The pool's lock may still be with the agent of a process that has ended or called exec. */
static int attach(struct pheap **opened, const char *path, bool read_only, struct problem *why)
{
    uint64_t deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + LOCK_PATIENCE_NS;
    const struct timespec retry = {0, LOCK_RETRY_NS};
    int status;

    while ((status = opened_attach(opened, path, read_only, why)) == STATUS_IN_USE &&
           sys_clock_ns(CLOCK_MONOTONIC) < deadline_ns)
        (void)sys_call(SYS_nanosleep, &retry, 0);
    return status;
}

static void start_agent(struct pheap *heap, unsigned flags, const struct pheap_options *options)
{
    uint64_t ms = options && options->interval_ms ? options->interval_ms : INTERVAL_MS;

    if (flags & (PHEAP_READ_ONLY | PHEAP_NO_AGENT | PHEAP_DIRECT_ONLY))
        return;
    if (heap_agent_start(heap, ms == UINT32_MAX ? 0 : ms * NS_PER_MS) < 0)
        return; /* checkpoints are taken here then */
}

static int open_heap(const char *path, unsigned flags, const struct pheap_options *options,
                     struct pheap **heap, struct problem *why)
{
    struct persist_pmem pmem;
    struct pheap *opened;
    int status = attach(&opened, path, flags & PHEAP_READ_ONLY, why);

    if (status < 0)
        return status;
    program_find_pmem(path, &pmem);
    if (pmem.copy && !(flags & PHEAP_READ_ONLY))
        opened_use_dax(opened, &pmem, clock_gettime);
    status = opened_load(opened, why);
    if (status < 0) {
        (void)opened_close(opened);
        return status;
    }
    opened->commits_soon = flags & PHEAP_COMMITS_SOON;
    opened->direct_only = flags & PHEAP_DIRECT_ONLY;
    start_agent(opened, flags, options);
    *heap = opened;
    return 0;
}

static int layout_to_store(uint32_t type, const struct pheap_layout *layout, struct tx_type *out)
{
    uint32_t runs = layout->runs, of_elements = layout->element_runs;

    if (runs > TX_TYPE_RUNS || of_elements > TX_TYPE_RUNS - runs)
        return STATUS_LIMIT;
    *out = (struct tx_type){.is_used = 1,
                            .type = type,
                            .bytes = layout->bytes,
                            .element_bytes = layout->element_bytes,
                            .run_count = (uint16_t)runs,
                            .element_run_count = (uint16_t)of_elements};
    for (uint32_t i = 0; i < runs + of_elements; i++) {
        const struct pheap_pointers *run =
            i < runs ? &layout->pointers[i] : &layout->element_pointers[i - runs];

        out->runs[i] = (struct tx_pointers){run->offset, run->count, run->kind};
    }
    return 0;
}

#pragma GCC visibility push(default)

int pheap_type_register(struct pheap_tx *tx, uint32_t type, const struct pheap_layout *layout)
{
    struct tx_type stored;
    int status = layout ? layout_to_store(type, layout, &stored) : 0;

    if (status < 0)
        return status;
    return layout ? type_register(tx, &stored) : type_forget(tx, type);
}

int pheap_open(const char *path, unsigned flags, const struct pheap_options *options,
               struct pheap **heap)
{
    struct problem why = {0};
    int status = refuse_if_checkpointed(flags, &why);

    if (flags & ~(unsigned)(PHEAP_CREATE | PHEAP_READ_ONLY | PHEAP_COMMITS_SOON | PHEAP_NO_AGENT |
                            PHEAP_DIRECT_ONLY))
        return -EINVAL;
    if (status == 0)
        status = open_heap(path, flags, options, heap, &why);
    if (status == -ENOENT && (flags & PHEAP_CREATE) && !(flags & PHEAP_READ_ONLY)) {
        status = make_pool(path, options, &why);
        if (status == 0 || status == -EEXIST) /* somebody was faster */
            status = open_heap(path, flags, options, heap, &why);
    }
    if (status < 0)
        tell(options, &why);
    return status;
}

int pheap_create(const char *path, const struct pheap_options *options, struct pheap **heap)
{
    struct problem why = {0};
    int status = refuse_if_checkpointed(0, &why);

    if (status == 0)
        status = make_pool(path, options, &why);
    if (status == 0)
        status = open_heap(path, 0, options, heap, &why);
    if (status < 0)
        tell(options, &why);
    return status;
}

struct pheap *pheap_default(void)
{
    return &process_heap;
}

int pheap_close(struct pheap *heap)
{
    return api_is_default(heap) ? (int)STATUS_REFUSED : opened_close(heap);
}

int64_t pheap_heap_checkpoint(struct pheap *heap)
{
    int status;

    if (api_is_default(heap))
        return pheap_checkpoint();
    status = opened_may_change(heap);
    return status < 0 ? explained(status) : opened_request_checkpoint(heap, CHECKPOINT_TIMEOUT_NS);
}

void *pheap_root(const struct pheap *heap, const char *name, uint32_t *type)
{
    return api_is_default(heap) ? heap_root(name, type) : root_find(heap, name, type);
}

int pheap_root_put(struct pheap *heap, const char *name, const void *object, uint32_t type)
{
    struct pheap_tx *tx = NULL;
    int status;

    if (api_is_default(heap))
        return heap_root_set(name, object, type);
    status = tx_begin(heap, &tx);
    if (status < 0)
        return explained(status);
    status = root_set(tx, name, object, type);
    if (status == 0)
        return explained(tx_commit(tx));
    tx_abort(tx);
    return status;
}

void *pheap_next_object(const struct pheap *heap, const void *after, uint32_t type)
{
    struct block block;

    if (api_is_default(heap))
        return NULL;
    return blocks_next(&heap->blocks, (uintptr_t)after, type, &block) ? (void *)block.address
                                                                      : NULL;
}

size_t pheap_object_bytes(const struct pheap *heap, const void *object)
{
    struct block block;

    if (api_is_default(heap))
        return object && heap_owns(object) ? heap_usable_bytes(object) : 0;
    return block_find(&heap->memory, (uintptr_t)object, &block) && block_state(&block) != TX_FREE
               ? block_bytes(&block)
               : 0;
}

uint32_t pheap_object_type(const struct pheap *heap, const void *object)
{
    struct block block;

    if (api_is_default(heap))
        return 0;
    return block_find(&heap->memory, (uintptr_t)object, &block) ? block_type(&block) : 0;
}

struct pheap_ref pheap_ref_of(const struct pheap *heap, const void *object)
{
    uint64_t offset = api_is_default(heap) ? 0 : refs_offset(heap, object);

    return (struct pheap_ref){offset ? refs_pool(heap) : 0, offset};
}

void *pheap_deref(struct pheap_ref ref)
{
    return refs_follow(ref.pool, ref.offset);
}

struct pheap *pheap_ref_heap(struct pheap_ref ref)
{
    return refs_find(ref.pool);
}

int pheap_tx_begin(struct pheap *heap, struct pheap_tx **tx)
{
    return explained(tx_begin(heap, tx));
}

int pheap_tx_add(struct pheap_tx *tx, void *start, size_t bytes)
{
    return tx_add(tx, start, bytes);
}

int pheap_tx_alloc(struct pheap_tx *tx, size_t bytes, uint32_t type, void **object)
{
    return tx_alloc(tx, bytes, type, object);
}

int pheap_tx_alloc_aligned(struct pheap_tx *tx, size_t alignment, size_t bytes, uint32_t type,
                           void **object)
{
    return tx_alloc_aligned(tx, alignment, bytes, type, object);
}

int pheap_tx_realloc(struct pheap_tx *tx, void **object, size_t bytes)
{
    return tx_realloc(tx, object, bytes);
}

int pheap_tx_free(struct pheap_tx *tx, void *object)
{
    return tx_free(tx, object);
}

int pheap_root_set(struct pheap_tx *tx, const char *name, const void *object, uint32_t type)
{
    return root_set(tx, name, object, type);
}

int pheap_tx_on_commit(struct pheap_tx *tx, void (*call)(void *), void *context)
{
    return tx_on_commit(tx, call, context);
}

int pheap_tx_on_abort(struct pheap_tx *tx, void (*call)(void *), void *context)
{
    return tx_on_abort(tx, call, context);
}

int pheap_tx_commit(struct pheap_tx *tx)
{
    return explained(tx_commit(tx));
}

int pheap_tx_begin_optimistic(struct pheap *heap, struct pheap_tx **tx)
{
    return explained(tx_begin_optimistic(heap, tx));
}

int pheap_tx_read(struct pheap_tx *tx, void *to, const void *from, size_t bytes)
{
    return tx_read(tx, to, from, bytes);
}

int pheap_tx_write(struct pheap_tx *tx, void *to, const void *from, size_t bytes)
{
    return tx_write(tx, to, from, bytes);
}

int pheap_tx_retry(struct pheap_tx *tx)
{
    return explained(tx_retry(tx));
}

int pheap_tx_join(struct pheap_tx *tx, struct pheap *heap, struct pheap_tx **part)
{
    return explained(tx_join(tx, heap, part));
}

int pheap_tx_root(struct pheap_tx *tx, const char *name, void **object, uint32_t *type)
{
    return root_get(tx, name, object, type);
}

struct pheap *pheap_tx_heap(const struct pheap_tx *tx)
{
    return tx_heap(tx);
}

struct pheap_tx_run **pheap_tx_run_of(struct pheap_tx *tx)
{
    return (struct pheap_tx_run **)tx_user(tx);
}

int pheap_tx_commit_soon(struct pheap_tx *tx, uint64_t *ticket)
{
    uint64_t sequence;
    int status = tx_commit_soon(tx, &sequence);

    if (ticket)
        *ticket = sequence;
    return explained(status);
}

int pheap_wait(struct pheap *heap, uint64_t ticket)
{
    return ticket == 0 ? 0 : explained(opened_wait(heap, ticket));
}

int pheap_sync(struct pheap *heap)
{
    return explained(opened_wait(heap, 0));
}

void pheap_tx_abort(struct pheap_tx *tx)
{
    tx_abort(tx);
}
