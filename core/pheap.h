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
 * Errors are negative: an enum pheap_error, or -errno (-ENOSPC: disk full). errno is left alone.
 */
#ifndef PHEAP_H
#define PHEAP_H

#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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
    PHEAP_ERROR_REFUSED = -5011,       /* the pool holds a program's checkpoints, not a heap; or a
                                          transaction on pheap_default() */
    PHEAP_ERROR_LIMIT = -5012,         /* too many named roots, or a log in too many pieces,
                                          or heaps in a transaction, or callers at once */
    PHEAP_ERROR_CONFLICT = -5014,      /* an optimistic transaction has lost: pheap_tx_retry() */
    PHEAP_ERROR_IN_DOUBT = -5015,      /* a transaction waits for another pool's decision */
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

/*
 * The generation that this process was last resumed from; 0: it has not been. Different after each
 * resume from what an image of the process can hold, so it tells that what must not repeat (keys,
 * seeds, connections) is to be made anew: keep the number beside it, and compare before use. Any
 * thread, signal handlers too. It costs a load.
 *
 * A child finds the number in its environment, as PHEAP_GENERATION.
 */
PHEAP_FUNCTION uint64_t pheap_resumed_generation(void);

/*
 * From now on the process gets this signal when it is resumed, before it goes on; 0: none. With
 * SA_SIGINFO the handler finds si_code SI_QUEUE and in si_value.sival_int the generation (its lower
 * 32 bits). A process has one such signal. -EINVAL: no such signal.
 */
PHEAP_FUNCTION int pheap_on_resume(int signal_number);

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
                      to be open at once need different ones. 0: a random one of 26 to 50 that is
                      free in this process */
    uint32_t keep; /* of a new heap: generations to keep, 1 to 16. 0: 3 */
    char *problem; /* one line of text goes there when opening fails; NULL: nowhere */
    size_t problem_bytes; /* its room, the NUL included */
    uint32_t interval_ms; /* between checkpoints by the heap's agent; 0: 10,000; UINT32_MAX: none
                             but when the log has grown by 16 MiB */
};

enum pheap_flags {
    PHEAP_CREATE = 1,       /* make the heap if the file is not there */
    PHEAP_READ_ONLY = 2,    /* as it was last committed; also while another process writes it */
    PHEAP_COMMITS_SOON = 4, /* pheap_tx_commit() is as pheap_tx_commit_soon() */
    PHEAP_NO_AGENT = 8,     /* checkpoints are taken in the calling process */
    PHEAP_DIRECT_ONLY = 16, /* optimistic transactions are refused (-EINVAL), others faster; and as
                               PHEAP_NO_AGENT */
};

/*
 * Opens the heap in the file at path. options may be NULL. *heap is set when 0 is returned.
 *
 * Reads the newest generation (all of it, and checks it), and applies the transactions committed
 * since. A heap opened with PHEAP_READ_ONLY stays as it was at that moment, in memory that cannot
 * be stored to.
 *
 * A heap opened for writing gets an agent, which takes its checkpoints: a process that shares this
 * one's memory, no thread and no child that wait() sees; it ends with the heap or the process.
 * Where there can be none (under Valgrind, say) it is as with PHEAP_NO_AGENT. If
 * the file is in use, waits up to 5 seconds for the agent of a process that has just ended.
 *
 * Errors: -ENOENT; -EEXIST (the heap's place in memory is taken: `pheap recover --clone FILE --slot
 * N` makes a copy for another place, if its pointers are known or self-relative); -ENOMEM; -ENOSPC;
 * and of enum pheap_error NOT_A_POOL, DAMAGED, NEWER_FORMAT, IN_USE, NOT_OWNER, NO_GENERATION,
 * REFUSED, and IN_DOUBT (pheap_tx_join()). UNSUPPORTED: the process is itself checkpointed (pheap
 * run), and may open heaps for reading only. DEFERRED: for reading, while the writer takes one
 * checkpoint after the other.
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
 * then. Returns the generation's number. Happens by itself: see pheap_options, interval_ms.
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
 * The heap of the process itself: what malloc returns lies in it. Never NULL; not to be closed.
 *
 * It is kept by checkpoints of the whole process (pheap run, pheap_checkpoint()), not by
 * transactions: a transaction on it would be in no log, and the process that is resumed from a
 * generation would not know of it. So pheap_tx_begin(), pheap_tx_begin_optimistic(),
 * pheap_tx_join(), pheap_close(), pheap_wait() and pheap_sync() return PHEAP_ERROR_REFUSED for it.
 * What works:
 *
 *     pheap_root(), pheap_root_put()   32 names for places in it, which `pheap inspect POOL roots`
 *                                      shows, and which a resumed process finds as they were
 *     pheap_heap_checkpoint()          as pheap_checkpoint()
 *     pheap_object_bytes()             of a block that malloc has returned: what can be used of it
 *
 * Blocks of malloc have no types: pheap_next_object() finds none and pheap_object_type() is 0
 * (`pheap inspect POOL blocks` lists them); pheap_ref_of() is {0, 0}. Without a pool names are kept
 * in memory alone. From any thread.
 */
PHEAP_FUNCTION struct pheap *pheap_default(void);

/*
 * Gives an object, or a place within one, a name of 1 to 47 bytes; object NULL: takes the name
 * away. In a transaction of its own, durable when 0 is returned; for pheap_default() at once, and
 * durable with the next checkpoint. Within a transaction: pheap_root_set().
 *
 * -EINVAL: name, or an object that is not in the heap; PHEAP_ERROR_LIMIT: 128 names (32 in
 * pheap_default()); else as pheap_tx_begin() and pheap_tx_commit(). From any thread; not while
 * another one sets roots of the same heap, but for pheap_default().
 *
 * Crash: the name leads to where it did before, or to the object.
 */
PHEAP_FUNCTION int pheap_root_put(struct pheap *heap, const char *name, const void *object,
                                  uint32_t type);

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

/* As pheap_tx_alloc(), at a multiple of alignment, a power of two up to 65536. An object aligned to
 * more than 16 lies in a place of 64 KiB of its own, or several. -EINVAL: alignment. */
PHEAP_FUNCTION int pheap_tx_alloc_aligned(struct pheap_tx *tx, size_t alignment, size_t bytes,
                                          uint32_t type, void **object);

/*
 * *object becomes one of so many bytes, of the same type: another one, unless it has that many,
 * with the content as far as both reach and zeroes behind it; the old one is freed as by
 * pheap_tx_free(). Pointers to it are for the program to change. Self-relative pointers within it
 * go on leading to what they led to if its type's layout tells of them (pheap_type_register());
 * else they are copied as bytes. Errors as pheap_tx_alloc() and pheap_tx_free(); *object is as it
 * was then.
 */
PHEAP_FUNCTION int pheap_tx_realloc(struct pheap_tx *tx, void **object, size_t bytes);

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
 * been undone and has ended too. One write and one fdatasync, shared with threads that commit
 * meanwhile (persistent memory: one copy, one fence); neither when nothing was changed.
 *
 * PHEAP_ERROR_CONFLICT, of an optimistic one: it has lost; what it did is undone, and it has not
 * ended: pheap_tx_retry() or pheap_tx_abort(). -ENOSPC, -ENOMEM, PHEAP_ERROR_LIMIT: the heap goes
 * on. Any other: it is unknown whether the transaction is durable; the heap takes no more changes,
 * and the next opening shows it whole or not at all.
 *
 * Crash: before it returns all or nothing of the transaction is there after opening again; then
 * all.
 */
PHEAP_FUNCTION int pheap_tx_commit(struct pheap_tx *tx);

/*
 * As pheap_tx_commit(), but returns when the record is written and before it is durable; one write,
 * no fdatasync (on persistent memory a commit is durable at once in any case). *ticket (unless
 * NULL) is for pheap_wait(); 0: there is nothing to wait for. It becomes durable with the next
 * pheap_tx_commit() of any thread, pheap_wait(), pheap_sync(), checkpoint, or pheap_close(). Errors
 * as pheap_tx_commit().
 *
 * Crash: the process dies: it is there. The machine dies: of what was not durable yet there is a
 * beginning, in the order of the commits: this transaction never without those before it.
 */
PHEAP_FUNCTION int pheap_tx_commit_soon(struct pheap_tx *tx, uint64_t *ticket);

/*
 * Waits until the commit that gave this ticket, and all before it, are durable. pheap_sync(): until
 * all are. One fdatasync for all threads that wait, none if it has been done. From any thread. -EIO
 * and the like: making it durable has failed, the heap takes no more changes.
 */
PHEAP_FUNCTION int pheap_wait(struct pheap *heap, uint64_t ticket);
PHEAP_FUNCTION int pheap_sync(struct pheap *heap);

/* Ends the innermost level; what it did is undone. */
PHEAP_FUNCTION void pheap_tx_abort(struct pheap_tx *tx);

/*
 * --- Optimistic transactions ---
 *
 * They need no locks. What a transaction reads with pheap_tx_read() was committed, all of it at one
 * moment; what it writes with pheap_tx_write() is its own until it commits. If others have changed
 * meanwhile what it has read, it has lost: PHEAP_ERROR_CONFLICT from one of its calls, and it
 * begins anew. A transaction never sees, not even when it will fail, what no serial order of the
 * committed ones gives. One that only reads writes nothing, neither to the pool nor to what threads
 * share, but for a spare list.
 *
 *     PHEAP_TX(heap) {
 *         struct account *from = ..., *to = ...;
 *
 *         PHEAP_SET(tx, &from->balance, PHEAP_GET(tx, &from->balance) - 10);
 *         PHEAP_SET(tx, &to->balance, PHEAP_GET(tx, &to->balance) + 10);
 *     } PHEAP_TX_END_WITH(status);
 *
 * Objects, roots, calls and nesting are as in direct ones. A new object, until it is committed, can
 * be stored to with plain stores; everything else is read and written through the transaction. An
 * object that another transaction frees can still be read by one that does not know it yet: that
 * one learns at once that it has lost, and memory that was once the heap's stays mapped until the
 * heap is closed.
 *
 * With direct transactions on the same data: what a direct one has added, freed, or read with
 * pheap_tx_read(), optimistic ones neither read nor commit until it has ended; and pheap_tx_add()
 * waits for one that is just committing there. So a direct one adds what optimistic ones may write
 * before it looks at it. A thread does not use in an optimistic transaction what it has added in a
 * direct one that is still open: it would wait for itself.
 *
 * One that has lost eight times is let go first by all others, for 10 ms, then twice that, and so
 * on: it commits in the end, also if it is long.
 */

/* As pheap_tx_begin(); *tx being open, one nested in it, of its kind. -EINVAL too: the heap was
 * opened with PHEAP_DIRECT_ONLY. */
PHEAP_FUNCTION int pheap_tx_begin_optimistic(struct pheap *heap, struct pheap_tx **tx);

/*
 * Copies bytes of the heap as the transaction sees them: with what it has written itself. In a
 * direct transaction: as they are now, held from now on as if they were added.
 *
 * PHEAP_ERROR_CONFLICT: it has lost (*to is undefined). -EINVAL: not in the heap. -ENOMEM.
 */
PHEAP_FUNCTION int pheap_tx_read(struct pheap_tx *tx, void *to, const void *from, size_t bytes);

/* Writes to the heap when the transaction commits. In a direct transaction: adds and stores.
 * Errors as above. */
PHEAP_FUNCTION int pheap_tx_write(struct pheap_tx *tx, void *to, const void *from, size_t bytes);

/*
 * Undoes all levels and begins the outermost one anew, after a while that is longer the more often
 * it has lost. pheap_tx_commit() of an optimistic one that returns PHEAP_ERROR_CONFLICT has undone
 * it and left it to this, or to pheap_tx_abort(). Its on-abort calls were made, and are forgotten.
 *
 * Negative: the transaction has ended. -EINVAL: it is a direct one, and goes on.
 */
PHEAP_FUNCTION int pheap_tx_retry(struct pheap_tx *tx);

/*
 * One transaction across several heaps that are open, direct or optimistic: *part is a transaction
 * on the other heap, for changes there. It begins, nests, commits and aborts with tx; what is done
 * through tx and all parts is durable in all heaps or in none. While tx is open, the same part for
 * the same heap (also after pheap_tx_retry()).
 *
 * The heap that tx was begun on decides, the other ones promise to follow (two-phase commit, with a
 * sync for each heap). If a crash leaves another heap not knowing what was decided, opening it
 * looks into the deciding heap's file, where it was then or beside the heap itself. If that is not
 * there, or is an older copy, the heap is in doubt: PHEAP_ERROR_IN_DOUBT for writing; for reading
 * it shows what was before. Bring the file back, or `pheap recover --resolve commit|abort`.
 *
 * -EINVAL: tx is itself a part. PHEAP_ERROR_LIMIT: more than eight heaps; from pheap_tx_commit():
 * 256 decisions that other heaps have not learnt of. Else as pheap_tx_begin().
 */
PHEAP_FUNCTION int pheap_tx_join(struct pheap_tx *tx, struct pheap *heap, struct pheap_tx **part);

/* As pheap_root(), as the transaction sees it. *object NULL: no such name. type may be NULL. */
PHEAP_FUNCTION int pheap_tx_root(struct pheap_tx *tx, const char *name, void **object,
                                 uint32_t *type);

/* The heap it was begun on. */
PHEAP_FUNCTION struct pheap *pheap_tx_heap(const struct pheap_tx *tx);

/* Whose PHEAP_TX the transaction is in: for the macros. */
PHEAP_FUNCTION struct pheap_tx_run **pheap_tx_run_of(struct pheap_tx *tx);

/*
 * PHEAP_TX(heap) { ... } PHEAP_TX_END
 *
 * Runs the block as an optimistic transaction `tx`, again and again until it has committed or
 * failed. PHEAP_TX_END_WITH(status) ends it too and says how it went: 0, -ECANCELED (left by
 * PHEAP_TX_ABORT), or another error; with PHEAP_TX_END a failure leaves no trace but that nothing
 * has changed. Leaving the block by return or goto aborts; so does break. What the block does
 * besides the transaction (input, output, plain variables) is done as often as it runs.
 *
 * PHEAP_TX_NESTED(tx) { ... } PHEAP_TX_END: a part that may be aborted by itself. When it loses,
 * the whole begins anew.
 *
 * Within, also in functions that are called with tx:
 *   PHEAP_GET(tx, pointer)         the value there
 *   PHEAP_SET(tx, pointer, value)
 *   PHEAP_TRY(tx, call)            a call that returns a status: on to the next line if it is 0
 *   PHEAP_TX_ABORT(tx)             out of the innermost block, undone
 * Each of them leaves the block when the transaction has lost or failed. In C that is a longjmp():
 * variables from outside the block that the block has changed since have no certain value after it
 * began anew or failed, unless they are volatile; variables within the block are new each time.
 * (gcc may warn of it where it need not, with -Wclobbered: give the block a function of its own.)
 * In C++ with exceptions it is one (pheap_tx_leaving), and variables keep their values; a catch
 * (...) in the block must pass it on.
 */
struct pheap_tx_run {
    struct pheap *heap;
    struct pheap_tx *volatile tx; /* NULL: not open */
    struct pheap_tx_run *outer;   /* of a nested one */
    volatile int status;
    volatile int is_nested, has_begun;
    jmp_buf jump;
};

static inline void pheap_tx_run_close(struct pheap_tx_run *run, int status)
{
    if (run->tx)
        *pheap_tx_run_of(run->tx) = run->outer;
    run->tx = NULL;
    run->status = status;
}

/* The end of its scope, however it was left. */
static inline void pheap_tx_run_left(struct pheap_tx_run *run)
{
    struct pheap_tx *tx = run->tx;

    if (!tx)
        return;
    pheap_tx_run_close(run, -ECANCELED);
    pheap_tx_abort(tx);
}

static inline struct pheap_tx *pheap_tx_run_begin(struct pheap_tx_run *run)
{
    struct pheap_tx *tx = run->tx; /* of the outer one, if there is one */
    struct pheap_tx_run **innermost;

    run->tx = NULL;
    run->has_begun = 1;
    run->status =
        run->is_nested ? pheap_tx_begin(run->heap, &tx) : pheap_tx_begin_optimistic(run->heap, &tx);
    if (run->status < 0)
        return NULL;
    innermost = pheap_tx_run_of(tx);
    run->outer = *innermost;
    *innermost = run;
    run->tx = tx;
    return tx;
}

/* After it has lost; NULL: it has failed. A nested one without an outer run gives up. */
static inline struct pheap_tx *pheap_tx_run_again(struct pheap_tx_run *run)
{
    struct pheap_tx *tx = run->tx;
    int status;

    if (run->is_nested) {
        pheap_tx_run_close(run, PHEAP_ERROR_CONFLICT);
        pheap_tx_abort(tx);
        return NULL;
    }
    *pheap_tx_run_of(tx) = run;
    status = pheap_tx_retry(tx);
    run->status = status;
    if (status < 0)
        run->tx = NULL;
    return status < 0 ? NULL : tx;
}

/* How the block goes on: it begins, begins anew, or is over. */
static inline struct pheap_tx *pheap_tx_run_next(struct pheap_tx_run *run)
{
    int status = run->status;

    if (!run->has_begun)
        return pheap_tx_run_begin(run);
    if (status == PHEAP_ERROR_CONFLICT && run->tx)
        return pheap_tx_run_again(run);
    pheap_tx_run_left(run);
    run->status = status;
    return NULL;
}

#ifdef __cpp_exceptions
#define PHEAP_TX_THROWS
struct pheap_tx_leaving {
    struct pheap_tx_run *to;
};
#endif

/* To where the block of `to` is looked after. */
__attribute__((noreturn)) static inline void pheap_tx_run_leave(struct pheap_tx_run *to, int status)
{
    to->status = status;
#ifdef PHEAP_TX_THROWS
    throw pheap_tx_leaving{to};
#else
    longjmp(to->jump, 1);
#endif
}

/* What a call in a block has returned. (Outside of any, there is nowhere to go to: abort().) */
static inline void pheap_tx_check(struct pheap_tx *tx, int status)
{
    struct pheap_tx_run *run;

    if (status >= 0)
        return;
    run = *pheap_tx_run_of(tx);
    if (!run)
        abort();
    while (status == PHEAP_ERROR_CONFLICT && run->outer)
        run = run->outer;
    pheap_tx_run_leave(run, status);
}

/* The block has come to its end. */
static inline struct pheap_tx *pheap_tx_run_commit(struct pheap_tx_run *run)
{
    struct pheap_tx *tx = run->tx;
    struct pheap_tx_run *outer = run->outer;
    int status;

    if (run->status < 0) /* C++: it was left */
        return pheap_tx_run_next(run);
    *pheap_tx_run_of(tx) = outer;
    status = pheap_tx_commit(tx);
    if (status == PHEAP_ERROR_CONFLICT && !run->is_nested)
        return pheap_tx_run_again(run);
    run->tx = NULL;
    run->status = status;
    if (status == PHEAP_ERROR_CONFLICT && outer)
        pheap_tx_check(tx, status);
    return NULL;
}

static inline void pheap_tx_run_create(struct pheap_tx_run *run, struct pheap *heap,
                                       struct pheap_tx *outer)
{
    run->heap = heap;
    run->tx = outer;
    run->outer = NULL;
    run->status = 0;
    run->is_nested = outer != NULL;
    run->has_begun = 0;
}

#define PHEAP_TX_RUN(heap, outer)                                                                  \
    do {                                                                                           \
        struct pheap_tx_run pheap_run_ __attribute__((cleanup(pheap_tx_run_left)));                \
        pheap_tx_run_create(&pheap_run_, (heap), (outer));
#define PHEAP_TX_LOOP                                                                              \
    for (struct pheap_tx *volatile tx = pheap_tx_run_next(&pheap_run_); tx;                        \
         tx = pheap_tx_run_commit(&pheap_run_))

#ifdef PHEAP_TX_THROWS
#define PHEAP_TX_TRIED                                                                             \
    PHEAP_TX_LOOP                                                                                  \
    try
#define PHEAP_TX_CAUGHT                                                                            \
    catch (const pheap_tx_leaving &pheap_leaving_)                                                 \
    {                                                                                              \
        if (pheap_leaving_.to != &pheap_run_)                                                      \
            throw;                                                                                 \
    }
#else
#define PHEAP_TX_TRIED                                                                             \
    (void)setjmp(pheap_run_.jump);                                                                 \
    PHEAP_TX_LOOP
#define PHEAP_TX_CAUGHT
#endif

#define PHEAP_TX(heap)                                                                             \
    PHEAP_TX_RUN(heap, NULL)                                                                       \
    PHEAP_TX_TRIED
#define PHEAP_TX_NESTED(outer)                                                                     \
    PHEAP_TX_RUN(pheap_tx_heap(outer), outer)                                                      \
    PHEAP_TX_TRIED
#define PHEAP_TX_END                                                                               \
    PHEAP_TX_CAUGHT                                                                                \
    pheap_tx_run_left(&pheap_run_); /* by break */                                                 \
    }                                                                                              \
    while (0)
#define PHEAP_TX_END_WITH(result)                                                                  \
    PHEAP_TX_CAUGHT                                                                                \
    pheap_tx_run_left(&pheap_run_);                                                                \
    (result) = pheap_run_.status;                                                                  \
    }                                                                                              \
    while (0)

#define PHEAP_TRY(tx, call) pheap_tx_check((tx), (call))
#define PHEAP_TX_ABORT(tx)  pheap_tx_run_leave(*pheap_tx_run_of(tx), -ECANCELED)

#ifdef __cplusplus
}
template <class T> inline T pheap_tx_get(struct pheap_tx *tx, const T *pointer)
{
    T value;

    pheap_tx_check(tx, pheap_tx_read(tx, &value, pointer, sizeof value));
    return value;
}
template <class T, class V> inline void pheap_tx_set(struct pheap_tx *tx, T *pointer, V value)
{
    T stored = static_cast<T>(value);

    pheap_tx_check(tx, pheap_tx_write(tx, pointer, &stored, sizeof stored));
}
extern "C" {
#define PHEAP_GET(tx, pointer)        pheap_tx_get((tx), (pointer))
#define PHEAP_SET(tx, pointer, value) pheap_tx_set((tx), (pointer), (value))
#else
#define PHEAP_GET(tx, pointer)                                                                     \
    __extension__({                                                                                \
        __typeof__(((void)0, *(pointer))) pheap_got_;                                              \
        pheap_tx_check((tx), pheap_tx_read((tx), &pheap_got_, (pointer), sizeof pheap_got_));      \
        pheap_got_;                                                                                \
    })
#define PHEAP_SET(tx, pointer, value)                                                              \
    do {                                                                                           \
        __typeof__(*(pointer)) pheap_set_ = (value);                                               \
        pheap_tx_check((tx), pheap_tx_write((tx), (pointer), &pheap_set_, sizeof pheap_set_));     \
    } while (0)
#endif

/*
 * --- Pointers ---
 *
 * A raw pointer (T *) into a heap stays valid from run to run: the heap lies where it lay. A
 * PHEAP_PTR(T) of 8 bytes says how far it is from itself to what it points to, so that a heap that
 * has no others can be moved to another place (`pheap recover --clone FILE --slot N`). Zeroes are
 * NULL; all else is the distance in bytes plus 2^63, so that a pointer to itself is one too, and a
 * number is hardly ever taken for a pointer.
 *
 *     struct node {
 *         PHEAP_PTR(struct node) next;
 *     };
 *
 *     PHEAP_PTR_PUT(&node->next, other);        plain stores and loads: in new objects, or in a
 *     other = PHEAP_PTR_OF(&node->next);        direct transaction after pheap_tx_add()
 *     PHEAP_PTR_SET(tx, &node->next, other);    in a block of PHEAP_TX
 *     other = PHEAP_PTR_GET(tx, &node->next);
 *
 * Both ends lie in one heap. It is copied from its place to another with these alone: as bytes it
 * would point elsewhere. (In C++ it is a class, pheap_ptr<T>, of which a copy points to the same,
 * and that does what a pointer does.)
 */
static inline uint64_t pheap_ptr_word(const void *place, const void *target)
{
    uint64_t distance = (uint64_t)(uintptr_t)target - (uint64_t)(uintptr_t)place;

    return target ? distance ^ ((uint64_t)1 << 63) : 0;
}

static inline void *pheap_ptr_target(const void *place, uint64_t word)
{
    uint64_t address = (uint64_t)(uintptr_t)place + (word ^ ((uint64_t)1 << 63));

    return word ? (void *)(uintptr_t)address : NULL;
}

/* Within any transaction: the pointer at place is read, or written, as pheap_tx_read() and
 * pheap_tx_write() do it, with their errors. */
static inline int pheap_tx_read_ptr(struct pheap_tx *tx, const void *place, void **target)
{
    uint64_t word = 0;
    int status = pheap_tx_read(tx, &word, place, sizeof word);

    *target = status < 0 ? NULL : pheap_ptr_target(place, word);
    return status;
}

static inline int pheap_tx_write_ptr(struct pheap_tx *tx, void *place, const void *target)
{
    uint64_t word = pheap_ptr_word(place, target);

    return pheap_tx_write(tx, place, &word, sizeof word);
}

static inline void *pheap_tx_get_ptr(struct pheap_tx *tx, const void *place)
{
    void *target;

    pheap_tx_check(tx, pheap_tx_read_ptr(tx, place, &target));
    return target;
}

#ifdef __cplusplus
}
template <class T> struct pheap_ptr {
    uint64_t pheap_word;

    pheap_ptr() : pheap_word(0)
    {
    }
    pheap_ptr(T *target) : pheap_word(pheap_ptr_word(this, target))
    {
    }
    pheap_ptr(const pheap_ptr &other) : pheap_word(pheap_ptr_word(this, other.get()))
    {
    }
    pheap_ptr &operator=(const pheap_ptr &other)
    {
        return *this = other.get();
    }
    pheap_ptr &operator=(T *target)
    {
        pheap_word = pheap_ptr_word(this, target);
        return *this;
    }
    T *get() const
    {
        return static_cast<T *>(pheap_ptr_target(this, pheap_word));
    }
    operator T *() const
    {
        return get();
    }
    T *operator->() const
    {
        return get();
    }
};
template <class T> inline T *pheap_tx_get(struct pheap_tx *tx, const pheap_ptr<T> *place)
{
    return static_cast<T *>(pheap_tx_get_ptr(tx, place));
}
template <class T> struct pheap_pointed { /* NULL need not be cast */
    typedef T *type;
};
template <class T>
inline void pheap_tx_set_ptr(struct pheap_tx *tx, pheap_ptr<T> *place,
                             typename pheap_pointed<T>::type target)
{
    pheap_tx_check(tx, pheap_tx_write_ptr(tx, place, target));
}
template <class T, class V>
inline void pheap_tx_set(struct pheap_tx *tx, pheap_ptr<T> *place, V target)
{
    pheap_tx_set_ptr(tx, place, static_cast<T *>(target));
}
extern "C" {
#define PHEAP_PTR(T)                    pheap_ptr<T>
#define PHEAP_PTR_OF(place)             ((place)->get())
#define PHEAP_PTR_PUT(place, value)     ((void)(*(place) = (value)))
#define PHEAP_PTR_GET(tx, place)        pheap_tx_get((tx), (place))
#define PHEAP_PTR_SET(tx, place, value) pheap_tx_set_ptr((tx), (place), (value))
#else
#define PHEAP_PTR(T)                                                                               \
    union {                                                                                        \
        uint64_t pheap_word;                                                                       \
        T *pheap_type; /* says what it points to, and is never used */                             \
    }
#define PHEAP_PTR_OF(place)                                                                        \
    __extension__({                                                                                \
        __typeof__(place) pheap_place_ = (place);                                                  \
        (__typeof__(pheap_place_->pheap_type))pheap_ptr_target(pheap_place_,                       \
                                                               pheap_place_->pheap_word);          \
    })
#define PHEAP_PTR_PUT(place, value)                                                                \
    do {                                                                                           \
        __typeof__(place) pheap_place_ = (place);                                                  \
        __typeof__(pheap_place_->pheap_type) pheap_target_ = (value);                              \
        pheap_place_->pheap_word = pheap_ptr_word(pheap_place_, pheap_target_);                    \
    } while (0)
#define PHEAP_PTR_GET(tx, place) ((__typeof__((place)->pheap_type))pheap_tx_get_ptr((tx), (place)))
#define PHEAP_PTR_SET(tx, place, value)                                                            \
    do {                                                                                           \
        __typeof__((place)->pheap_type) pheap_target_ = (value);                                   \
        pheap_tx_check((tx), pheap_tx_write_ptr((tx), (place), pheap_target_));                    \
    } while (0)
#endif

/*
 * A reference to an object in any heap, 16 bytes, which may lie in another one: it is resolved
 * while the heap that it leads to is open in this process, wherever that lies then. Zeroes: to
 * nothing. It names the pool by half of its uuid; a copy made by `pheap recover --clone` has
 * another one, so that references lead to the original.
 *
 * It is a value: copied as it is, also from heap to heap. What only references in other heaps lead
 * to nobody can know: give it a name (pheap_root_set()), or `pheap recover --collect` frees it.
 */
struct pheap_ref {
    uint64_t pool, offset;
};

/* The reference to an object of an open heap, or to a place within one; {0, 0} if there is none of
 * the heap's data. From any thread. */
PHEAP_FUNCTION struct pheap_ref pheap_ref_of(const struct pheap *heap, const void *object);

/*
 * What a reference leads to, if its heap is open in this process; NULL: it is not, or ref is {0,
 * 0}. That there is still an object is for the program to know, as with any pointer.
 *
 * From any thread, while no other one closes the heap.
 */
PHEAP_FUNCTION void *pheap_deref(struct pheap_ref ref);

/* The open heap that a reference leads into, for a transaction there; NULL: it is not open. From
 * any thread, while no other one closes the heap. */
PHEAP_FUNCTION struct pheap *pheap_ref_heap(struct pheap_ref ref);

/* Where objects of a type hold pointers. */
enum pheap_pointer_kind { PHEAP_POINTER_RAW = 1, PHEAP_POINTER_SELF = 2, PHEAP_POINTER_REF = 3 };

struct pheap_pointers {   /* so many, one after the other */
    uint32_t offset;      /* in the object, or in an element; a multiple of 8 */
    uint16_t count, kind; /* of enum pheap_pointer_kind */
};

struct pheap_layout {
    uint32_t bytes;         /* of the object, or of what is in front of its array */
    uint32_t element_bytes; /* of an array up to the object's end; 0: there is none */
    uint32_t runs, element_runs;
    const struct pheap_pointers *pointers, *element_pointers; /* arrays of so many runs */
};

/*
 * Tells where the objects of a type hold pointers: nowhere else. `pheap recover --collect` and
 * `pheap inspect` (leaks, retained) then follow these alone, raw ones, self-relative ones, and
 * references to objects of the same heap; in objects of other types they take every word that leads
 * into the heap for a pointer, and see no references. Also what `--clone FILE --slot N` needs to
 * know, if there are raw pointers.
 *
 *     static const struct pheap_pointers links = {offsetof(struct node, next), 2,
 *                                                 PHEAP_POINTER_SELF};
 *     static const struct pheap_layout layout = {sizeof(struct node), 0, 1, 0, &links, NULL};
 *
 *     status = pheap_type_register(tx, TYPE_NODE, &layout);
 *
 * It is part of the transaction, kept in the heap, and may be told again: the last one counts, also
 * for objects that are there already. NULL: nothing is known of the type any more. Objects shorter
 * than `bytes` count as unknown.
 *
 * -EINVAL: a run that is not within the object or the element, or not at a multiple of 8, or of no
 * kind, or empty; element_bytes, or bytes in front of elements, no multiple of 8.
 * PHEAP_ERROR_LIMIT: more than 12 runs in all, or 128 types. PHEAP_ERROR_CONFLICT, -ENOMEM.
 */
PHEAP_FUNCTION int pheap_type_register(struct pheap_tx *tx, uint32_t type,
                                       const struct pheap_layout *layout);

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
