/*
 * pheap.h - for programs that know of pheap. A program needs none of this to be checkpointed.
 *
 * Linking. A program that is linked with libpheap defines PHEAP_LINKED before it includes this
 * header (pkg-config says so). Otherwise every function here is declared weak: the program starts
 * without libpheap, and finds the functions when libpheap is preloaded:
 *
 *     if (pheap_is_present() && (number = pheap_checkpoint()) > 0) ...
 *
 * That takes a position-independent executable, which is what compilers make by default. In one
 * that is not (-no-pie, -static), link with -lpheap, or look functions up with dlsym(). (A linker
 * that drops libraries nobody needs takes a library that is referred to weakly for one of those.)
 *
 * Errors are negative: one of enum pheap_error, or -errno of what failed (-ENOSPC: the disk is
 * full). errno is left alone.
 */
#ifndef PHEAP_H
#define PHEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef PHEAP_LINKED
#define PHEAP_FUNCTION
#else
#define PHEAP_FUNCTION __attribute__((weak))
#endif

enum pheap_error {
    PHEAP_ERROR_NOT_A_POOL = -5000,    /* the file is no pool */
    PHEAP_ERROR_DAMAGED = -5001,       /* a checksum or an invariant does not hold */
    PHEAP_ERROR_NEWER_FORMAT = -5002,  /* written by a later pheap */
    PHEAP_ERROR_IN_USE = -5003,        /* another opening, here or elsewhere, writes this pool */
    PHEAP_ERROR_NOT_OWNER = -5004,     /* another user's pool */
    PHEAP_ERROR_NO_GENERATION = -5005, /* opened for reading, and there is nothing in it yet */
    PHEAP_ERROR_UNSUPPORTED = -5007,   /* something in the process cannot be saved */
    PHEAP_ERROR_DEFERRED = -5008,      /* not now: a child lives, a thread cannot be stopped */
    PHEAP_ERROR_NOT_PERMITTED = -5009, /* the process may not be traced */
    PHEAP_ERROR_REFUSED = -5011,       /* the pool holds a program's checkpoints, not a heap */
    PHEAP_ERROR_LIMIT = -5012,         /* too many named roots, or a log in too many pieces */
    PHEAP_ERROR_NO_POOL = -5100,       /* this process has no pool: it was not started under pheap,
                                          or is a child of one that was, or its agent is gone */
};

/*
 * Takes a checkpoint now and waits until it is durable, whatever the interval. Returns the number
 * of the generation, or a negative error; the program goes on in either case.
 *
 * The generation holds everything that was done before the call. A process that is resumed from it
 * comes back from this very call with the same number.
 *
 * From any thread; several may call at once. Not from a signal handler. Waits 5 seconds for what
 * defers it, and a minute at most.
 */
PHEAP_FUNCTION int64_t pheap_checkpoint(void);

/* The text of an error, in English; never NULL. */
PHEAP_FUNCTION const char *pheap_error_text(int64_t error);

/*
 * --- Heaps that the program opens by itself ---
 *
 * A heap is a pool file. Opened, it lies at the same address in every process, so pointers within
 * it stay valid; it is reached through named roots and changed in transactions. A transaction whose
 * commit has returned 0 survives kill -9 and power loss; one that was open has not happened.
 * docs/transactions.md says how and why.
 *
 * Errors are negative and change nothing, unless said. Functions that take a heap or a transaction
 * must not be called from a signal handler. In a forked child the parent's heaps cannot be changed
 * any more (PHEAP_ERROR_NO_POOL); what they held can be read.
 */
struct pheap;
struct pheap_tx;

struct pheap_options {
    uint32_t slot; /* of a new heap: its place in memory, 1 to 50 but not 10 or 11. Heaps that are
                      to be open at once need different ones. 0: a random one */
    uint32_t keep; /* of a new heap: generations to keep, 1 to 16. 0: 3 */
    char *problem; /* one line of text goes there when opening fails; NULL: nowhere */
    size_t problem_bytes; /* its room, the NUL included */
    uint32_t interval_ms; /* between checkpoints by the heap's agent, if something was committed.
                             0: 10,000. UINT32_MAX: only when the log has grown by 16 MiB */
};

enum pheap_flags {
    PHEAP_CREATE = 1,       /* make the heap if the file is not there */
    PHEAP_READ_ONLY = 2,    /* as it was last committed; also while another process writes it */
    PHEAP_COMMITS_SOON = 4, /* pheap_tx_commit() is as pheap_tx_commit_soon() */
    PHEAP_NO_AGENT = 8,     /* checkpoints are taken in the calling process */
};

/*
 * Opens the heap in the file at path. options may be NULL. *heap is set when 0 is returned.
 *
 * Reads the newest generation (all of it, and checks it), and applies the transactions committed
 * since. A heap opened with PHEAP_READ_ONLY stays as it was at that moment, in memory that cannot
 * be stored to.
 *
 * A heap opened for writing gets an agent, which takes its checkpoints: a process that shares this
 * one's memory, no thread and no child that wait() sees, gone when the heap is closed or the
 * process has ended. Where there can be none the heap is right without. A program that ends without
 * pheap_close() loses nothing. If the file is in use, waits up to 2 seconds for the agent of a
 * process that has just ended.
 *
 * Errors: -ENOENT; -EEXIST (the heap's place in memory is taken); -ENOMEM; -ENOSPC; and of enum
 * pheap_error NOT_A_POOL, DAMAGED, NEWER_FORMAT, IN_USE, NOT_OWNER, NO_GENERATION, REFUSED.
 * UNSUPPORTED: the process is itself checkpointed (pheap run), and may open heaps for reading only.
 * DEFERRED: for reading, while the writer takes one checkpoint after the other.
 *
 * Crash: a new heap's file is there, whole and perhaps still empty, or not; an old one is not
 * changed by opening it.
 */
PHEAP_FUNCTION int pheap_open(const char *path, unsigned flags, const struct pheap_options *options,
                              struct pheap **heap);

/* As pheap_open() for writing, but -EEXIST if the file is there. */
PHEAP_FUNCTION int pheap_create(const char *path, const struct pheap_options *options,
                                struct pheap **heap);

/*
 * Takes the heap out of memory: pointers into it are void. All that was committed is durable then.
 * PHEAP_ERROR_DEFERRED: a transaction is open, and the heap stays. -EIO and the like: it is closed,
 * but what pheap_tx_commit_soon() has left to be done has failed. No other thread may use the heap.
 */
PHEAP_FUNCTION int pheap_close(struct pheap *heap);

/*
 * Writes what has changed as the pool's next generation, and the log starts anew; opening is faster
 * then. Returns the generation's number. Happens by itself: at an interval, and when the log has
 * grown by 16 MiB.
 *
 * Waits up to 5 seconds until no transaction is open (PHEAP_ERROR_DEFERRED; so it always ends
 * within a transaction of the same thread); transactions that begin meanwhile wait for that, but
 * not while the generation is written. -ENOSPC and the like: the heap goes on. -EIO: if making it
 * durable has failed, the heap takes no more changes until it is opened again. From any thread.
 *
 * Crash: the same content, from the generation before and its log or from the new one.
 */
PHEAP_FUNCTION int64_t pheap_heap_checkpoint(struct pheap *heap);

/*
 * The object that a name stands for, and in *type (unless NULL) the type it was given; NULL: none.
 * From any thread, while no other thread sets roots.
 */
PHEAP_FUNCTION void *pheap_root(const struct pheap *heap, const char *name, uint32_t *type);

/*
 * The first object of this type that lies behind `after` (NULL: the first of all), or NULL. Objects
 * of transactions that are open are among them. For a walk over all: no other thread may allocate
 * or free meanwhile.
 */
PHEAP_FUNCTION void *pheap_next_object(const struct pheap *heap, const void *after, uint32_t type);

/* The bytes that were asked for, and the type; 0 if no object starts there. */
PHEAP_FUNCTION size_t pheap_object_bytes(const struct pheap *heap, const void *object);
PHEAP_FUNCTION uint32_t pheap_object_type(const struct pheap *heap, const void *object);

/*
 * --- Transactions ---
 *
 * A direct transaction: pheap_tx_add() a range, then change it with plain stores. A new object need
 * not be added. Any number of transactions may be open at once, in one thread or several; the
 * program's own locks must keep each from touching what another one changes, and are held until the
 * commit or abort has returned. One transaction is used by one thread at a time.
 *
 *     struct pheap_tx *tx = NULL;
 *
 *     if (pheap_tx_begin(heap, &tx) == 0) {
 *         if (pheap_tx_add(tx, &account->balance, sizeof account->balance) == 0) {
 *             account->balance += 10;
 *             status = pheap_tx_commit(tx);
 *         } else {
 *             pheap_tx_abort(tx);
 *         }
 *     }
 */

/*
 * Begins a transaction, *tx being NULL; or, *tx being one that is open on this heap, one nested in
 * it: it ends with a commit or abort of its own, what it did is then the outer one's or undone, and
 * is durable when the outermost one is. Outermost ones may wait for a checkpoint, or take one.
 *
 * -ENOMEM; -EROFS: the heap is open for reading; PHEAP_ERROR_NO_POOL: a forked child; -EINVAL: *tx
 * is of another heap; -EIO and the like: making something durable has failed, open the heap anew.
 */
PHEAP_FUNCTION int pheap_tx_begin(struct pheap *heap, struct pheap_tx **tx);

/* Before these bytes are stored to: they are put back by an abort and written by the commit. A
 * range may be added twice. -EINVAL: not in the heap. -ENOMEM. */
PHEAP_FUNCTION int pheap_tx_add(struct pheap_tx *tx, void *start, size_t bytes);

/* A new object of zeroes, aligned to 16 bytes. type is the program's: any number. -ENOMEM: no room
 * in the heap (256 GiB) or in memory. */
PHEAP_FUNCTION int pheap_tx_alloc(struct pheap_tx *tx, size_t bytes, uint32_t type, void **object);

/* The object is gone with the commit; until then it stays as it is, and its place is not used
 * again. -EINVAL: no object starts there, or an open transaction has freed it. -ENOMEM. */
PHEAP_FUNCTION int pheap_tx_free(struct pheap_tx *tx, void *object);

/* Gives an object (or a place within one) a name of 1 to 47 bytes; object NULL: takes the name
 * away. -EINVAL: name or object; PHEAP_ERROR_LIMIT: 128 names; -ENOMEM. Two transactions that are
 * open at once must not both set roots. */
PHEAP_FUNCTION int pheap_root_set(struct pheap_tx *tx, const char *name, const void *object,
                                  uint32_t type);

/*
 * Calls that are made when the outermost transaction is durable (oldest first), or when what was
 * done since has been undone, by an abort at any level or a commit that failed (newest first). A
 * nested transaction that aborts forgets its own on-commit calls. They may begin transactions, on
 * another tx variable. -ENOMEM.
 */
PHEAP_FUNCTION int pheap_tx_on_commit(struct pheap_tx *tx, void (*call)(void *), void *context);
PHEAP_FUNCTION int pheap_tx_on_abort(struct pheap_tx *tx, void (*call)(void *), void *context);

/*
 * Ends the innermost level. Of a nested one: 0. Of the outermost: 0 when it is durable; else it has
 * been undone and has ended too. One write and one fdatasync, which is shared with other threads
 * that commit meanwhile; neither when nothing was added, allocated or freed. On persistent memory
 * one copy and one fence.
 *
 * -ENOSPC, -ENOMEM: the heap goes on. Any other: it is unknown whether the transaction is durable;
 * the heap takes no more changes, and the next opening shows it whole or not at all.
 *
 * Crash: before it returns all or nothing of the transaction is there after opening again; then
 * all.
 */
PHEAP_FUNCTION int pheap_tx_commit(struct pheap_tx *tx);

/*
 * As pheap_tx_commit(), but returns when the record is written and before it is durable; one write,
 * no fdatasync (on persistent memory a commit is durable at once in any case). *ticket (unless
 * NULL) is for pheap_wait(); 0: there is nothing to wait for. It becomes durable with the next
 * pheap_tx_commit() of any thread, pheap_wait(), pheap_sync(), checkpoint, or pheap_close().
 *
 * Other transactions see it at once, and come after it in the log. Errors as pheap_tx_commit().
 *
 * Crash: the process dies: it is there. The machine dies: of what was not durable yet there is a
 * beginning, in the order of the commits: this transaction never without those before it.
 */
PHEAP_FUNCTION int pheap_tx_commit_soon(struct pheap_tx *tx, uint64_t *ticket);

/*
 * Waits until the commit that gave this ticket, and all before it, are durable. pheap_sync(): until
 * all are. One fdatasync for all threads that wait, none if it has been done. From any thread; not
 * within a transaction whose end the ticket comes from.
 *
 * -EIO and the like: making it durable has failed, the heap takes no more changes.
 */
PHEAP_FUNCTION int pheap_wait(struct pheap *heap, uint64_t ticket);
PHEAP_FUNCTION int pheap_sync(struct pheap *heap);

/* Ends the innermost level; what it did is undone. */
PHEAP_FUNCTION void pheap_tx_abort(struct pheap_tx *tx);

/* Whether libpheap is in this process. */
static inline int pheap_is_present(void)
{
#ifdef PHEAP_LINKED
    return 1;
#else
    return pheap_checkpoint != 0;
#endif
}

#ifdef __cplusplus
}
#endif

#endif
