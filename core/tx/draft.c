/*
 * draft.c - see draft.h. What is written is as it is in memory now.
 */
#include "core/tx/draft.h"

#include <errno.h>
#include <string.h>
#include "core/tx/mutant.h"

static uint64_t write_bytes(uint64_t bytes)
{
    return sizeof(struct log_entry) + ((bytes + 7) & ~7ull);
}

static uint64_t op_bytes(const struct op *op)
{
    switch (op->kind) {
    case OP_RANGE:
        return write_bytes(op->range.bytes);
    case OP_ALLOC:
        return sizeof(struct log_entry) + write_bytes(block_bytes(&op->block));
    case OP_FREE:
        return sizeof(struct log_entry);
    default:
        return 0;
    }
}

/* A record under construction. */
struct draft {
    struct log_record *record;
    uint8_t *at;
};

static void put_entry(struct draft *draft, const struct log_entry *entry)
{
    memcpy(draft->at, entry, sizeof *entry);
    draft->at += sizeof *entry;
    draft->record->entry_count++;
}

static void put_write(struct draft *draft, uintptr_t address, uint64_t bytes)
{
    put_entry(draft, &(struct log_entry){.kind = LOG_WRITE, .address = address, .bytes = bytes});
    memcpy(draft->at, (const void *)address, bytes);
    draft->at += (bytes + 7) & ~7ull;
}

static void put_alloc(struct draft *draft, const struct block *block)
{
    put_entry(draft, &(struct log_entry){.kind = LOG_ALLOC,
                                         .type = block_type(block),
                                         .address = block->address,
                                         .bytes = block_bytes(block),
                                         .slice = block->slice,
                                         .size_class = block->span->size_class});
}

static void put_op(struct draft *draft, const struct op *op, enum log_entry_kind kind)
{
    if (kind == LOG_ALLOC && op->kind == OP_ALLOC)
        put_alloc(draft, &op->block);
    else if (kind == LOG_WRITE && op->kind == OP_RANGE)
        put_write(draft, (uintptr_t)op->range.start, op->range.bytes);
    else if (kind == LOG_WRITE && op->kind == OP_ALLOC &&
             !TX_MUTANT(TX_MUTANT_NEW_BLOCK_NOT_WRITTEN))
        put_write(draft, op->block.address, block_bytes(&op->block));
    else if (kind == LOG_FREE && op->kind == OP_FREE)
        put_entry(draft, &(struct log_entry){.kind = LOG_FREE, .address = op->block.address});
}

static uint64_t head_bytes(const struct draft_head *head)
{
    return head ? write_bytes(head->bytes) : 0;
}

static void put_head(struct draft *draft, const struct draft_head *head)
{
    put_entry(draft,
              &(struct log_entry){.kind = LOG_PREPARE, .address = head->id, .bytes = head->bytes});
    memcpy(draft->at, head->promise, head->bytes);
    draft->at += (head->bytes + 7) & ~7ull;
}

/* With the record's header. */
static uint64_t bytes_of(const struct op *first, const struct draft_head *head)
{
    uint64_t bytes = sizeof(struct log_record) + head_bytes(head);

    for (const struct op *op = first; op; op = op->after)
        bytes += op_bytes(op);
    return (bytes + LOG_ALIGN - 1) & ~(uint64_t)(LOG_ALIGN - 1);
}

int draft_record(const struct op *first, const struct draft_head *head, struct arena *arena,
                 struct log_record **record)
{
    uint64_t bytes = bytes_of(first, head);
    struct draft draft;

    if (bytes == sizeof(struct log_record))
        return 0;
    draft.record = arena_alloc(arena, bytes, 64);
    if (!draft.record)
        return -ENOMEM;
    draft.at = (uint8_t *)(draft.record + 1);
    if (head)
        put_head(&draft, head);
    for (enum log_entry_kind kind = LOG_ALLOC; kind <= LOG_FREE; kind++)
        for (const struct op *op = first; op; op = op->after)
            put_op(&draft, op, kind);
    draft.record->bytes = bytes;
    *record = draft.record;
    return 1;
}
