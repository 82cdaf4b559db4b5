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
    TX_MUTANT_END,
};

#ifndef TX_MUTANT
#define TX_MUTANT(name) 0
#endif

#endif
