/*
 * mutant.h - named faults. A test that hunts for crash-safety bugs must be seen to catch some:
 * t/unit/pool_crash_mutants.c compiles the sources that have them once more, with POOL_MUTANT()
 * defined, and switches on one fault after another. Everywhere else they are compiled out.
 */
#ifndef PHEAP_POOL_MUTANT_H
#define PHEAP_POOL_MUTANT_H

enum pool_mutant {
    MUTANT_NONE,
    MUTANT_SUPERBLOCK_BEFORE_SYNC,       /* step 2 of the commit is left out */
    MUTANT_NO_FINAL_SYNC,                /* step 4 is left out */
    MUTANT_DROPPED_REUSED_EARLY,         /* step 5 comes before step 1 */
    MUTANT_RELEASED_REUSED_AT_ONCE,      /* live -> free instead of live -> dead */
    MUTANT_ONE_SUPERBLOCK_SLOT,          /* every superblock goes to frame 0 */
    MUTANT_RECORD_AFTER_SYNC,            /* the record is written between steps 2 and 3 */
    MUTANT_OF_DAX,                       /* those before are of every back end */
    MUTANT_DAX_NO_DRAIN = MUTANT_OF_DAX, /* a sync does not fence */
    MUTANT_DAX_NO_FLUSH,                 /* stores stay in the cache */
    MUTANT_DAX_GROWTH_NOT_SYNCED,        /* the new length is durable some time later */
    MUTANT_DAX_FILE_NOT_SYNCED,          /* nor is what was written beyond the mapped part */
    MUTANT_END,
};

#ifndef POOL_MUTANT
#define POOL_MUTANT(name) 0
#endif

#endif
