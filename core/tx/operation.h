/*
 * operation.h - what a transaction has done, oldest first (transaction.h says what each means).
 * Internal to core/tx.
 */
#ifndef PHEAP_TX_OPERATION_H
#define PHEAP_TX_OPERATION_H

#include <stdint.h>
#include "core/tx/block.h"

enum op_kind { OP_RANGE, OP_ALLOC, OP_FREE, OP_ON_COMMIT, OP_ON_ABORT };

struct op {
    struct op *before, *after;
    enum op_kind kind;
    union {
        struct {
            uint8_t *start;
            uint64_t bytes;
        } range; /* the bytes that were there follow */
        struct block block;
        struct {
            void (*function)(void *context);
            void *context;
        } call;
    };
};

#endif
