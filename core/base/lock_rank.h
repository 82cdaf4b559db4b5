/*
 * lock_rank.h - the order of locks, as data: a thread that holds a lock takes only locks that
 * stand further down in this list (or, for THREAD_HEAP, several in the order of their
 * addresses). Debug builds (-DPHEAP_DEBUG) stop on a violation.
 */
#ifndef PHEAP_BASE_LOCK_RANK_H
#define PHEAP_BASE_LOCK_RANK_H

enum lock_rank {
    LOCK_RANK_START,        /* the heap of this process is being made */
    LOCK_RANK_THREAD_HEAPS, /* the table of thread heaps and the list of the dead */
    LOCK_RANK_THREAD_HEAP,  /* one thread heap's slab lists */
    LOCK_RANK_HARDENED,     /* everything of a hardened heap but the runs */
    LOCK_RANK_PROFILE,      /* the tables of a profile */
    LOCK_RANK_SPANS,        /* free runs, top, commit */
    LOCK_RANK_CHECKPOINT,   /* an opened heap's checkpoint, as a whole */
    LOCK_RANK_LOG,          /* an opened heap's log: places of records */
    LOCK_RANK_POOL,         /* an opened heap's pool: held while a generation is written */
    LOCK_RANK_OPENED,       /* an opened heap's blocks */
    LOCK_RANK_COUNT
};

#endif
