/*
 * finding.c - the table of findings. docs/recover.md has the same ids; t/e2e/check.t compares them.
 */
#include "recovery/check/finding.h"

static const struct {
    const char *id, *meaning;
} findings[FINDING_KINDS] = {
    [SB_MAGIC] = {"SB-1", "a superblock does not begin with the magic"},
    [SB_CHECKSUM] = {"SB-2", "a superblock's checksum is wrong"},
    [SB_VERSION] = {"SB-3", "a superblock's format version is unknown"},
    [SB_PLACE] = {"SB-4", "a superblock lies in the other one's place"},
    [SB_SLOT] = {"SB-5", "a superblock's slot does not exist"},
    [SB_RUN_STATE] = {"SB-6", "a superblock's run state does not exist"},
    [SB_KEEP] = {"SB-7", "a superblock keeps an impossible number of generations"},
    [SB_NUMBERS] = {"SB-8", "a superblock's generation numbers contradict each other"},
    [SB_FRAMES] = {"SB-9", "a superblock's number of frames is impossible"},
    [SB_LIST] = {"SB-10", "a superblock lists more generations than it has room for"},
    [SB_PAIR] = {"SB-11", "the two superblocks do not belong together"},
    [SB_RESERVED] = {"SB-12", "reserved bytes of a superblock are not zero"},
    [GE_NUMBER] = {"GE-1", "a generation's number is out of order"},
    [GE_KIND] = {"GE-2", "a generation's kind does not exist"},
    [GE_SLOT] = {"GE-3", "a generation's slot does not exist"},
    [GE_ROOT] = {"GE-4", "a generation's index begins outside the pool"},
    [GE_DELTA] = {"GE-5", "a generation's delta lies outside the pool"},
    [GE_RECORD] = {"GE-6", "a generation's record lies outside the pool"},
    [GE_PAGES] = {"GE-7", "a generation has another number of pages than its entry says"},
    [GE_FLAGS] = {"GE-8", "a generation has unknown flags"},
    [FI_SHORT] = {"FI-1", "the file is shorter than its superblock says"},
    [IX_NODE] = {"IX-1", "an index node's checksum is wrong"},
    [IX_INNER] = {"IX-2", "an entry above the leaves says 'zero page'"},
    [IX_EMPTY] = {"IX-3", "an index entry without a frame has a checksum"},
    [DL_CHECKSUM] = {"DL-1", "a delta's checksum is wrong"},
    [DL_COUNT] = {"DL-2", "a delta has more entries than its frames hold"},
    [DL_ORDER] = {"DL-3", "a delta's pages are not ascending"},
    [DL_ENTRY] = {"DL-4", "a delta's entry is impossible"},
    [DL_CHAIN] = {"DL-5", "a chain of deltas is too long"},
    [DL_TAIL] = {"DL-6", "bytes behind a delta's entries are not zero"},
    [FR_BEYOND] = {"FR-1", "a frame lies beyond the end of the pool"},
    [FR_TWICE] = {"FR-2", "a frame is used for two things"},
    [FR_SUPERBLOCK] = {"FR-3", "a superblock's frame is named as a part of a generation"},
    [PG_CHECKSUM] = {"PG-1", "a page's checksum is wrong"},
    [RC_CHECKSUM] = {"RC-1", "a record's checksum is wrong"},
    [RC_CONTENT] = {"RC-2", "a record makes no sense"},
    [RC_MISSING] = {"RC-3", "a process generation has no record"},
    [RC_NEWER] = {"RC-4", "a record was written by a newer pheap"},
    [HP_HEADER] = {"HP-1", "the heap has no header"},
    [HP_AREA] = {"HP-2", "an area of the heap does not lie where it must"},
    [HP_EXTENT] = {"HP-3", "the heap's extent contradicts its areas"},
    [HP_SPAN] = {"HP-4", "a span descriptor makes no sense"},
    [HP_INSIDE] = {"HP-5", "the descriptors inside a span do not belong to it"},
    [HP_RUN] = {"HP-6", "a free run's end does not match its start"},
    [HP_BIN] = {"HP-7", "the lists of free runs do not match the free runs"},
    [HP_SLAB] = {"HP-8", "a slab's descriptor makes no sense"},
    [HP_LIST] = {"HP-9", "a free list leads out of its slab, to no free block, or nowhere"},
    [HP_LARGE] = {"HP-10", "a large block is larger than its span"},
    [HP_THREADS] = {"HP-11", "a thread heap makes no sense"},
    [HP_TABLE] = {"HP-12", "a hardened slab's table makes no sense"},
    [HP_VERSION] = {"HP-13", "the heap was written by another version of pheap"},
    [HP_LOCK] = {"HP-14", "a lock of the heap is held by what is no thread"},
    [PF_HEADER] = {"PF-1", "the header of the heap's profile makes no sense"},
    [PF_STACK] = {"PF-2", "a stack of the profile makes no sense"},
    [PF_SAMPLE] = {"PF-3", "a sample of the profile makes no sense"},
    [PF_CHAIN] = {"PF-4", "the profile's chains do not lead to each stack and sample once"},
    [LG_PLACE] = {"LG-1", "a superblock's place of the log is impossible"},
    [LG_FOLLOWS] = {"LG-2", "the log does not follow the newest generation"},
    [LG_BREAKS] = {"LG-3", "the log breaks off, and whole records follow"},
    [LG_ENTRY] = {"LG-4", "an entry of the log makes no sense"},
    [LG_TORN] = {"LG-5", "the log's last record is torn"},
    [LG_LOOKALIKES] = {"LG-6", "too much in the log looks like records"},
    [OH_HEADER] = {"OH-1", "an opened heap's header makes no sense"},
    [OH_SPAN] = {"OH-2", "a span of an opened heap makes no sense"},
    [OH_NOTE] = {"OH-3", "a block's note in an opened heap makes no sense"},
    [OH_ROOT] = {"OH-4", "a named root makes no sense"},
    [OH_DANGLING] = {"OH-5", "a named root leads to no object"},
    [OH_TYPE] = {"OH-6", "a named root has another type than its object"},
};

const char *finding_id(enum finding_kind kind)
{
    return findings[kind].id;
}

const char *finding_meaning(enum finding_kind kind)
{
    return findings[kind].meaning;
}
