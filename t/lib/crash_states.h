/*
 * crash_states.h - the files that a power cut could leave, built from a recording.
 *
 * What a sync has covered is there; of what was written since, any subset of the media's units:
 *
 *   CRASH_BLOCK   512-byte sectors of a block device. A growth of the file that no sync has covered
 *                 may be lost, but a write that is there makes the file as long as it needs.
 *   CRASH_DAX     64-byte lines of persistent memory. The stores to one line become durable in
 *                 program order. A fence covers what was stored past the cache or flushed from
 *                 it, an fdatasync all; a growth counts when it was synced, and a store to what
 *                 the file has not got after the cut is lost.
 *
 * At each point of the trace: everything pending is there (the program-order prefix); nothing is;
 * each single operation is lost; each single one alone is there; all subsets when at most
 * CRASH_SUBSETS operations are pending, else random ones; the last operation torn: all subsets of
 * its units when at most CRASH_TORN of them change anything (a superblock), else each single one
 * lost or there, and random ones; and random subsets of all pending units.
 */
#ifndef PHEAP_T_LIB_CRASH_STATES_H
#define PHEAP_T_LIB_CRASH_STATES_H

#include <stdbool.h>
#include <stdint.h>
#include "t/lib/persist_recorder.h"

#define CRASH_SECTOR_BYTES 512u
#define CRASH_LINE_BYTES   64u
#define CRASH_SUBSETS      5
#define CRASH_TORN         10
#define CRASH_RANDOM       12 /* random states of each kind at each point */

/*
 * The file at path is in the state to be judged. position: operations of the trace before the
 * cut. Returns false to stop (the state is wrong; the callee has said why). The callee may change
 * the file if it sets *changed.
 */
typedef bool crash_judge(void *context, const char *path, size_t position, bool *changed);

enum crash_media { CRASH_BLOCK, CRASH_DAX };

struct crash_run {
    enum crash_media media;
    const struct recording *recording;
    const char *path;    /* a scratch file, made and left to the caller to remove */
    size_t first_judged; /* cuts before this operation are not tried */
    uint64_t seed;
    crash_judge *judge;
    void *context;
    unsigned long states; /* out: judged */
    bool failed;          /* out: judge returned false */
};

void crash_states_run(struct crash_run *run);

/* For judges: what was marked last before position, -1: nothing; and the whole present file, as the
 * first operation of a new recording (copied to copy_path meanwhile), synced: the first two
 * operations are not to be judged. */
int crash_acked_at(const struct recording *recording, size_t position);
void crash_record_file(struct recording *recording, const char *path, const char *copy_path);
#define CRASH_FILE_OPERATIONS 2

#endif
