/*
 * tx_crash_heap.h - the heap whose life tx_crash_life.h records, the model of what it should hold,
 * and the steps that change both.
 */
#ifndef PHEAP_T_LIB_TX_CRASH_HEAP_H
#define PHEAP_T_LIB_TX_CRASH_HEAP_H

#include "core/tx/resize.h"
#include "core/tx/types.h"
#include "t/lib/crash_states.h"
#include "t/lib/tx_fixture.h"

#define WORDS    24
#define OBJECTS  24
#define ACKS_MAX 256

#define TYPE_TABLE  1u
#define TYPE_OBJECT 2u
#define TYPE_NODE   3u

/* In the heap, under the root "table". */
struct table {
    uint64_t words[WORDS];
    uint8_t *objects[OBJECTS];
    uint64_t *node; /* self-relative pointers to words, one after the other */
};

/* What it should hold. */
struct model {
    uint64_t words[WORDS];
    uint32_t bytes[OBJECTS]; /* 0: no such object */
    uint8_t fill[OBJECTS];
    uint32_t node_count;   /* its pointers; 0: there is none */
    uint32_t layout_bytes; /* of TYPE_NODE; 0: none is known */
};

struct history {
    struct recording recording;
    struct model acks[ACKS_MAX];
    unsigned ack_count;
};

static struct history *recorded; /* where the present heap's operations go; NULL: nowhere */
static char text[512];           /* the first thing that went wrong; "": nothing did */

static inline bool wrong(const char *where, size_t number, const char *detail)
{
    if (!text[0])
        snprintf(text, sizeof text, "%s %zu: %.350s", where, number, detail);
    return false;
}

static inline void step(int64_t status, const char *what)
{
    if (status < 0)
        wrong("status -", (size_t)-status, what);
}

/* --- the heap and the model --- */

static inline struct table *table_of(const struct pheap *at)
{
    return root_find(at, "table", NULL);
}

static inline const char *object_fault(const struct pheap *at, const uint8_t *object,
                                       uint32_t bytes, uint8_t fill)
{
    struct block block;

    if (!object || bytes == 0)
        return object || bytes ? "an object too many or too few" : NULL;
    if (!block_find(&at->memory, (uintptr_t)object, &block) || block_state(&block) != TX_USED ||
        block_bytes(&block) != bytes || block_type(&block) != TYPE_OBJECT)
        return "an object's block";
    for (uint32_t i = 0; i < bytes; i++)
        if (object[i] != fill)
            return "an object's bytes";
    return NULL;
}

static inline uint64_t pointer_to_word(const struct table *table, const uint64_t *place, uint32_t i)
{
    return ((uintptr_t)&table->words[i % WORDS] - (uintptr_t)place) ^ 1ull << 63;
}

static inline const char *node_fault(const struct pheap *at, const struct table *table,
                                     const struct model *model)
{
    const struct tx_type *layouts = (const struct tx_type *)(at->memory.base + TX_TYPES_OFFSET);
    struct block block;

    if (layouts->is_used != (model->layout_bytes > 0) || layouts->bytes != model->layout_bytes)
        return "a layout";
    if ((table->node != NULL) != (model->node_count > 0))
        return "a node too many or too few";
    if (table->node &&
        (!block_find(&at->memory, (uintptr_t)table->node, &block) ||
         block_type(&block) != TYPE_NODE || block_bytes(&block) != model->node_count * 8))
        return "the node's block";
    for (uint32_t i = 0; i < model->node_count; i++)
        if (table->node[i] != pointer_to_word(table, &table->node[i], i))
            return "a pointer of the node";
    return NULL;
}

/* NULL: the heap is as the model. */
static inline const char *difference(const struct pheap *at, const struct model *model)
{
    const struct table *table = table_of(at);
    struct block block = {0};
    unsigned expected = 0, found = 0;
    const char *fault = NULL;

    if (!table)
        return model->words[0] ? "no table" : NULL;
    if (memcmp(table->words, model->words, sizeof model->words) != 0)
        return "a word";
    fault = node_fault(at, table, model);
    for (unsigned i = 0; i < OBJECTS && !fault; i++) {
        fault = object_fault(at, table->objects[i], model->bytes[i], model->fill[i]);
        expected += model->bytes[i] > 0;
    }
    while (blocks_next(&at->blocks, block.address, TYPE_OBJECT, &block))
        found++;
    if (!fault && found != expected)
        fault = "the number of objects";
    return fault;
}

/* --- steps, on the heap and on the model --- */

static struct model now;

static inline struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    step(tx_begin(heap, &tx), "begin");
    return tx;
}

static inline struct pheap_tx *begin_unlocked(void)
{
    struct pheap_tx *tx = NULL;

    step(tx_begin_optimistic(heap, &tx), "begin");
    return tx;
}

static inline void acknowledge(void)
{
    if (!recorded)
        return;
    recorded->acks[recorded->ack_count] = now;
    recording_mark(&recorded->recording, recorded->ack_count++);
}

static inline void put_word(struct pheap_tx *tx, unsigned i, uint64_t value, struct model *model)
{
    step(tx_write(tx, &table_of(heap)->words[i], &value, sizeof value), "write");
    model->words[i] = value;
}

static inline void put_object(struct pheap_tx *tx, unsigned i, uint32_t bytes, uint8_t fill,
                              struct model *model)
{
    uint8_t **object = &table_of(heap)->objects[i];

    step(tx_add(tx, object, sizeof *object), "add");
    if (*object)
        step(tx_free(tx, *object), "free");
    *object = NULL;
    if (bytes > 0)
        step(tx_alloc(tx, bytes, TYPE_OBJECT, (void **)object), "alloc");
    if (*object)
        memset(*object, fill, bytes);
    model->bytes[i] = bytes;
    model->fill[i] = fill;
}

/* It will be durable with the next that is acknowledged, or before. */
static inline void note(const struct model *model)
{
    now = *model;
    if (recorded)
        recorded->acks[recorded->ack_count++] = now;
}

/* A commit that fails (on purpose, in one test) has left memory as it was. */
static inline int end(struct pheap_tx *tx, const struct model *model)
{
    int status = tx_commit(tx);
    const char *fault;

    if (status == 0)
        now = *model;
    fault = difference(heap, &now);
    if (fault)
        wrong("memory after a commit", 0, fault);
    if (status == 0)
        acknowledge();
    return status;
}

static inline void aborted(struct pheap_tx *tx)
{
    const char *fault;

    tx_abort(tx);
    fault = difference(heap, &now);
    if (fault)
        wrong("memory after an abort", 0, fault);
}

#endif
