/*
 * opened_model.h - spans, notes and roots of an opened heap, as the generation has them and then as
 * the log's entries change them, without the bytes of its blocks. Internal to recovery/check.
 */
#ifndef PHEAP_RECOVERY_OPENED_MODEL_H
#define PHEAP_RECOVERY_OPENED_MODEL_H

#include "core/tx/log_cursor.h"
#include "core/tx/log_format.h"
#include "core/tx/tx_format.h"
#include "recovery/check/heap_view.h"

struct opened_model {
    struct heap_view *view;
    struct tx_span *spans;  /* TX_SLICES_MAX */
    struct tx_note **notes; /* of the slab that begins at a slice; NULL: none does */
    uint32_t top;           /* behind the last slice with a span */
    uint8_t roots[TX_ROOTS * sizeof(struct tx_root)];
};

/* Checks what the generation says. -ENOMEM; to be closed in any case. False in *is_right: spans
 * contradict each other, the rest was not looked at. */
MUST_CHECK int model_open(struct opened_model *model, struct heap_view *view, bool *is_right);
void model_close(struct opened_model *model);

/* NULL, or what was expected. */
const char *model_apply(struct opened_model *model, const struct log_entry *entry);

void model_check_roots(struct opened_model *model);

/* log.c: applies the log's records and reports what makes no sense. -ENOMEM. */
MUST_CHECK int check_log_entries(struct opened_model *model);

#endif
