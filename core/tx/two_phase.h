/*
 * two_phase.h - a transaction that has changed several heaps becomes durable in all of them or in
 * none. Internal to core/tx.
 *
 * The heap that the transaction was begun on decides; the others have promised to follow.
 *
 *     step                                                      a stop there leaves
 *     1. a record that only promises, in each other heap's log  nothing of it: no decision
 *     2. all of these are durable                               the same
 *     3. the deciding heap's record: what the transaction has   nothing, or all of it, if the
 * record changed there, and an entry in its table of decisions  is whole: it decides
 *     4. it is durable                                          all of it
 *     5. each other log says that it has committed              all of it: who has no such record
 *                                                               yet asks the deciding pool
 *     6. in memory: stripes are let go, frees take effect       all of it
 *
 * Records that build on what was promised lie behind that of step 5, so replay applies the promise
 * before them. The entry of step 3 stays until the other logs have step 5 durably (decisions.h).
 */
#ifndef PHEAP_TX_TWO_PHASE_H
#define PHEAP_TX_TWO_PHASE_H

#include "core/base/status.h"
#include "core/tx/operation.h"

/*
 * 0: it is durable in all heaps. Negative: it is to be undone in memory, and has not happened; but
 * where it is not known whether it was decided, all its heaps have `failed`, and opening them again
 * tells. STATUS_LIMIT: too many decisions that other heaps have not learnt of.
 */
MUST_CHECK int two_phase_commit(struct pheap_tx *tx);

#endif
