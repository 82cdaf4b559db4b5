/*
 * mutant.h - named faults, as core/pool/mutant.h says: t/unit/tx_crash_mutants.c compiles the
 * sources that have them once more and must catch each. Everywhere else they are compiled out.
 */
#ifndef PHEAP_TX_MUTANT_H
#define PHEAP_TX_MUTANT_H

enum tx_mutant {
    TX_MUTANT_NONE,
    TX_MUTANT_COMMIT_WITHOUT_SYNC,   /* a commit returns before its record is durable */
    TX_MUTANT_RECORD_APPLIED_TWICE,  /* the log's first record is applied again at the end */
    TX_MUTANT_UNDO_NOT_APPLIED,      /* an abort leaves the stores as they are */
    TX_MUTANT_LOG_NOT_CUT,           /* the log goes on behind the records of a generation */
    TX_MUTANT_LEFTOVERS_COUNT,       /* a record need not belong to the log and follow the last */
    TX_MUTANT_CHECKSUM_NOT_CHECKED,  /* a torn record counts */
    TX_MUTANT_FREE_AT_ONCE,          /* a freed block is handed out before the commit */
    TX_MUTANT_NEW_BLOCK_NOT_WRITTEN, /* what is stored to a new block is not in the record */
    TX_MUTANT_GROWTH_NOT_LISTED,     /* the superblock does not list the log's new frames */
    TX_MUTANT_LANE_NOT_FENCED,       /* a record in a lane is not durable when its commit returns */
    TX_MUTANT_STAMPS_ALL_THE_SAME,   /* nothing says which of two lanes' records was first */
    TX_MUTANT_LANES_OUTLIVE_CUTS,    /* a lane is written to though the log has been cut */
    TX_MUTANT_LANES_OUTLIVE_SESSION, /* a later session's records are put among those of lanes */
    TX_MUTANT_LANES_SEEN_ONCE,       /* a lane that ended is not looked at again */
    TX_MUTANT_PREDECESSORS_NOT_AWAITED, /* a record is durable though one before it is not */
    TX_MUTANT_HOLES_ARE_DAMAGE,         /* whole records behind one that is not count as damage */
    TX_MUTANT_SPACE_FREE_AT_CUT,        /* the log's space is used again before the generation is */
    TX_MUTANT_CUT_WHILE_OPEN,           /* a cut does not wait for open transactions */
    TX_MUTANT_SPAN_NOT_RECORDED,        /* a new block's record does not say what span it is of */
    TX_MUTANT_SESSION_GOES_ON,          /* records after an opening are of the session before */
    TX_MUTANT_COMMIT_NOT_VALIDATED,     /* what was read is not looked at again at the commit */
    TX_MUTANT_READ_NOT_VALIDATED,   /* what is newer than what was read before is taken as it is */
    TX_MUTANT_READ_NOT_CHECKED,     /* a copy counts though its stripe was taken meanwhile */
    TX_MUTANT_NOT_LOCKED,           /* a commit does not take its stripes */
    TX_MUTANT_VERSION_NOT_RAISED,   /* a commit leaves the versions as they are */
    TX_MUTANT_CLOCK_NOT_RAISED,     /* who meets a newer version takes it for its own clock alone */
    TX_MUTANT_DIRECT_NOT_HELD,      /* direct transactions do not take what they add */
    TX_MUTANT_FREE_NOT_LOCKED,      /* a freed block's stripes keep their versions */
    TX_MUTANT_PROMISE_KEPT_AT_ONCE, /* what was prepared counts whatever was decided */
    TX_MUTANT_PREPARE_NOT_AWAITED,  /* it is decided before what was prepared is durable */
    TX_MUTANT_OUTCOME_NOT_WRITTEN,  /* the other heaps' logs do not say what became of it */
    TX_MUTANT_DECISION_NOT_KEPT,    /* a decision goes before the other heaps know it */
    TX_MUTANT_OLD_POOL_DECIDES,     /* an older copy of the deciding pool counts */
    TX_MUTANT_UNDECIDED_COMMITS,    /* what was not decided is taken for committed */
    TX_MUTANT_DOUBT_IGNORED,        /* a heap in doubt is opened as if it had not been decided */
    TX_MUTANT_END,
};

#ifndef TX_MUTANT
#define TX_MUTANT(name) 0
#endif

/* Where other threads may come in between: a test makes them. */
#ifndef TX_WINDOW
#define TX_WINDOW() ((void)0)
#endif

#endif
