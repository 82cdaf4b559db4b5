/*
 * fill.c - pages that are not mapped are read in: each is read into a small buffer, compared with
 * its checksum and copied from there into the stopped new process, by as many threads as there are
 * processors.
 *
 * The buffer stays in the processor's cache, where a page is looked at twice. Not chosen: checksum
 * and copy from a mapping of the pool. Page tables for what is scattered over a file of gigabytes
 * take as long to make as the pages to read, and 3 ms of 40 to take away again.
 *
 * Not chosen: preadv in the new process. One processor at work, a fault for each page that a
 * mapping of frames lies under, and verified somewhere else: 1.8 us a page and more, which with a
 * hundred megabytes of scattered pages was most of a restore.
 *
 * Always true: nothing is written before it has been verified; the threads are gone when
 * contents_fill() returns, before thread ids of the new process matter.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "recovery/restore/job.h"

#define CHUNK_FILLS    64u /* of one call: 256 KiB, a quarter of a processor's own cache */
#define CHUNK_BYTES    (CHUNK_FILLS * PAGE_BYTES)
#define FILLS_THREAD   1024u /* a thread costs some 50 us */
#define THREADS_MAX    16
#define PROCESSORS_MAX 8192

struct filling {
    struct restore_job *job;
    int pid;
    const struct image_plan *plan;
    uint8_t *buffers; /* CHUNK_FILLS pages for each thread */
    unsigned started; /* threads that have taken theirs */
    unsigned makers_processor;
    uint64_t next; /* fill that nobody has taken yet */
    int failed;    /* 1: somebody has said why */
};

/* The first one to fail says why. */
static void fail(struct filling *filling, int status, const char *what,
                 const struct plan_fill *fill)
{
    const struct restore_job *job = filling->job;

    if (__atomic_exchange_n(&filling->failed, status, __ATOMIC_SEQ_CST) != 0)
        return;
    (void)problem_set(job->why, status,
                      "%s: frame %lu (page at %lx of generation %lu) %s; restore -g takes an older "
                      "generation",
                      job->pool.path, (unsigned long)fill->entry.frame,
                      (unsigned long)(fill->page << PAGE_SHIFT),
                      (unsigned long)job->generation.number, what);
}

/* How many pages at the start of the list lie side by side in the pool. */
static uint64_t count_run(const struct plan_fill *fills, uint64_t count)
{
    uint64_t run = 1;

    while (run < count && fills[run].entry.frame == fills->entry.frame + run)
        run++;
    return run;
}

/* Reads pages from the start of the list and returns how many; 0: it has failed. If those that lie
 * side by side cannot be read in one piece, the one at fault is found. */
static uint64_t read_run(struct filling *filling, const struct plan_fill *fills, uint64_t count,
                         uint8_t *out)
{
    int fd = filling->job->pool.fd, status;
    uint64_t frame = fills->entry.frame;

    if (frame == FRAME_ZERO) {
        memset(out, 0, PAGE_BYTES);
        return 1;
    }
    count = count_run(fills, count);
    status = sys_pread_all(fd, out, count << FRAME_SHIFT, frame << FRAME_SHIFT);
    if (status < 0 && count > 1) {
        count = 1;
        status = sys_pread_all(fd, out, FRAME_BYTES, frame << FRAME_SHIFT);
    }
    if (status < 0)
        fail(filling, status == -EIO ? STATUS_DAMAGED : status, "cannot be read", fills);
    return status < 0 ? 0 : count;
}

static bool read_chunk(struct filling *filling, const struct plan_fill *fills, uint64_t count,
                       uint8_t *buffer)
{
    for (uint64_t i = 0, run; i < count; i += run) {
        run = read_run(filling, fills + i, count - i, buffer + (i << PAGE_SHIFT));
        if (run == 0)
            return false;
        for (uint64_t k = i; k < i + run && fills[k].entry.frame != FRAME_ZERO; k++)
            if (checksum64(buffer + (k << PAGE_SHIFT), FRAME_BYTES) != fills[k].entry.checksum) {
                fail(filling, STATUS_DAMAGED, "has the wrong checksum", &fills[k]);
                return false;
            }
    }
    return true;
}

/* Lengthens the last piece or begins one. */
static void add_piece(struct iovec *pieces, size_t *count, uintptr_t address)
{
    struct iovec *last = *count > 0 ? &pieces[*count - 1] : NULL;

    if (last != NULL && (uintptr_t)last->iov_base + last->iov_len == address)
        last->iov_len += PAGE_BYTES;
    else
        pieces[(*count)++] = (struct iovec){(void *)address, PAGE_BYTES};
}

static void fill_chunk(struct filling *filling, const struct plan_fill *fills, uint64_t count,
                       uint8_t *buffer)
{
    struct iovec from = {buffer, count << PAGE_SHIFT}, to[CHUNK_FILLS];
    size_t to_count = 0;
    long got;

    if (!read_chunk(filling, fills, count, buffer))
        return;
    for (uint64_t i = 0; i < count; i++)
        add_piece(to, &to_count, fills[i].page << PAGE_SHIFT);
    got = sys_call(SYS_process_vm_writev, filling->pid, &from, 1, to, to_count, 0);
    if (got != (long)from.iov_len)
        fail(filling, got < 0 ? (int)got : -EFAULT, "cannot be copied into the new process",
             &fills[got > 0 ? (uint64_t)got / PAGE_BYTES : 0]);
}

static void *fill_some(void *argument)
{
    struct filling *filling = argument;
    const struct image_plan *plan = filling->plan;
    unsigned number = __atomic_fetch_add(&filling->started, 1, __ATOMIC_RELAXED);
    uint8_t *buffer = filling->buffers + number * (size_t)CHUNK_BYTES;

    while (__atomic_load_n(&filling->failed, __ATOMIC_RELAXED) == 0) {
        uint64_t first = __atomic_fetch_add(&filling->next, CHUNK_FILLS, __ATOMIC_RELAXED);
        uint64_t left = first < plan->fill_count ? plan->fill_count - first : 0;

        if (left == 0)
            break;
        fill_chunk(filling, &plan->fills[first], left < CHUNK_FILLS ? left : CHUNK_FILLS, buffer);
    }
    return NULL;
}

/*
 * A new thread is put beside the one that made it now and then, and left there for milliseconds,
 * while another processor has nothing to do. So the one that its maker is on is not for helpers,
 * where there is another. If that cannot be had, they stay where they are.
 */
static void leave_processor(unsigned makers)
{
    uint64_t allowed[PROCESSORS_MAX / 64] = {0};
    long bytes = sys_call(SYS_sched_getaffinity, 0, sizeof allowed, allowed);

    if (bytes <= 0 || makers >= PROCESSORS_MAX)
        return;
    allowed[makers / 64] &= ~(1ull << makers % 64);
    (void)sys_call(SYS_sched_setaffinity, 0, bytes, allowed); /* of none: refused */
}

static void *help(void *argument)
{
    struct filling *filling = argument;

    leave_processor(filling->makers_processor);
    return fill_some(filling);
}

static void fill_plan(struct filling *filling)
{
    unsigned wanted = sys_worker_count(filling->plan->fill_count, FILLS_THREAD, THREADS_MAX),
             started = 0;
    pthread_t threads[THREADS_MAX];

    filling->next = 0;
    filling->started = 0;
    if (wanted > 1)
        (void)sys_call(SYS_getcpu, &filling->makers_processor, 0, 0);
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, help, filling) == 0)
        started++;
    (void)fill_some(filling);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
}

int contents_fill(struct restore_job *job, int pid)
{
    struct filling filling = {.job = job, .pid = pid};

    filling.buffers = arena_alloc(&job->arena, (size_t)THREADS_MAX * CHUNK_BYTES, PAGE_BYTES);
    if (filling.buffers == NULL)
        return problem_set(job->why, -ENOMEM, "no memory for what is read in");
    for (uint32_t i = 0; i < job->plan_count && filling.failed == 0; i++) {
        filling.plan = &job->plans[i];
        contents_warm(job, filling.plan);
        fill_plan(&filling);
    }
    return filling.failed;
}
