/*
 * finding.h - everything that the checker can find, by id. An id once given keeps its meaning.
 */
#ifndef PHEAP_RECOVERY_FINDING_H
#define PHEAP_RECOVERY_FINDING_H

#include <stdint.h>

enum severity {
    SEVERITY_NONE,
    SEVERITY_HARMLESS, /* nothing is lost by it */
    SEVERITY_DAMAGE,   /* something that the pool should give back is not what it was */
};

/* In the order of the ids; finding.c has the table. */
enum finding_kind {
    SB_MAGIC,
    SB_CHECKSUM,
    SB_VERSION,
    SB_PLACE,
    SB_SLOT,
    SB_RUN_STATE,
    SB_KEEP,
    SB_NUMBERS,
    SB_FRAMES,
    SB_LIST,
    SB_PAIR,
    SB_RESERVED,
    GE_NUMBER,
    GE_KIND,
    GE_SLOT,
    GE_ROOT,
    GE_DELTA,
    GE_RECORD,
    GE_PAGES,
    GE_FLAGS,
    FI_SHORT,
    IX_NODE,
    IX_INNER,
    IX_EMPTY,
    DL_CHECKSUM,
    DL_COUNT,
    DL_ORDER,
    DL_ENTRY,
    DL_CHAIN,
    DL_TAIL,
    FR_BEYOND,
    FR_TWICE,
    FR_SUPERBLOCK,
    PG_CHECKSUM,
    RC_CHECKSUM,
    RC_CONTENT,
    RC_MISSING,
    RC_NEWER,
    HP_HEADER,
    HP_AREA,
    HP_EXTENT,
    HP_SPAN,
    HP_INSIDE,
    HP_RUN,
    HP_BIN,
    HP_SLAB,
    HP_LIST,
    HP_LARGE,
    HP_THREADS,
    HP_TABLE,
    HP_VERSION,
    HP_LOCK,
    PF_HEADER,
    PF_STACK,
    PF_SAMPLE,
    PF_CHAIN,
    LG_PLACE,
    LG_FOLLOWS,
    LG_BREAKS,
    LG_ENTRY,
    LG_TORN,
    LG_LOOKALIKES,
    OH_HEADER,
    OH_SPAN,
    OH_NOTE,
    OH_ROOT,
    OH_DANGLING,
    OH_TYPE,
    FINDING_KINDS
};

#define PLACE_UNKNOWN UINT64_MAX

/* Where: each of them may be unknown; generation and address then are 0. */
struct place {
    uint64_t offset;
    uint64_t generation;
    uint64_t address;
};

struct finding {
    enum finding_kind kind;
    enum severity severity;
    struct place place;
    char expected[64], found[160];
};

const char *finding_id(enum finding_kind kind);      /* "SB-2" */
const char *finding_meaning(enum finding_kind kind); /* "a superblock's checksum is wrong" */

#endif
