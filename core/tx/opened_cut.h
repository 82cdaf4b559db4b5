/*
 * opened_cut.h - when checkpoints of an opened heap are due. Internal to core/tx.
 */
#ifndef PHEAP_TX_OPENED_CUT_H
#define PHEAP_TX_OPENED_CUT_H

#include "core/tx/opened.h"

#define OPENED_LOG_BYTES (16ull << 20) /* of log: the next begin takes a checkpoint */

/* If one is due: the agent is told, or it is taken here. */
void opened_checkpoint_if_due(struct pheap *heap);

#endif
