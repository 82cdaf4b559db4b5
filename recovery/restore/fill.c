/*
 * fill.c - pages that are not mapped are read in: each is compared with its checksum in the pool's
 * page cache and copied from there into the stopped new process, by as many threads as there are
 * processors.
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

#define CHUNK_FILLS  512u  /* of one call; at most IOV_MAX pieces on either side */
#define FILLS_THREAD 1024u /* a thread costs some 50 us */
#define THREADS_MAX  16

struct filling {
    struct restore_job *job;
    int pid;
    const uint8_t *frames; /* the pool, mapped */
    uint64_t frame_count;
    const struct image_plan *plan;
    uint64_t next; /* fill that nobody has taken yet */
    int failed;    /* 1: somebody has said why */
};

static const uint8_t zeroes[PAGE_BYTES];

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

/* What is to be copied; NULL if it is damaged. */
static const uint8_t *content(struct filling *filling, const struct plan_fill *fill)
{
    uint64_t frame = fill->entry.frame;
    const uint8_t *data = filling->frames + frame * FRAME_BYTES;

    if (frame == FRAME_ZERO)
        return zeroes;
    if (frame < FRAME_FIRST || frame >= filling->frame_count)
        fail(filling, STATUS_DAMAGED, "lies beyond the end of the file", fill);
    else if (checksum64(data, FRAME_BYTES) != fill->entry.checksum)
        fail(filling, STATUS_DAMAGED, "has the wrong checksum", fill);
    else
        return data;
    return NULL;
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

static void fill_chunk(struct filling *filling, const struct plan_fill *fills, uint64_t count)
{
    struct iovec from[CHUNK_FILLS], to[CHUNK_FILLS];
    size_t from_count = 0, to_count = 0;
    long got;

    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *data = content(filling, &fills[i]);

        if (data == NULL)
            return;
        add_piece(from, &from_count, (uintptr_t)data);
        add_piece(to, &to_count, fills[i].page << PAGE_SHIFT);
    }
    got = sys_call(SYS_process_vm_writev, filling->pid, from, from_count, to, to_count, 0);
    if (got != (long)(count * PAGE_BYTES))
        fail(filling, got < 0 ? (int)got : -EFAULT, "cannot be copied into the new process",
             &fills[got > 0 ? (uint64_t)got / PAGE_BYTES : 0]);
}

static void *fill_some(void *argument)
{
    struct filling *filling = argument;
    const struct image_plan *plan = filling->plan;

    while (__atomic_load_n(&filling->failed, __ATOMIC_RELAXED) == 0) {
        uint64_t first = __atomic_fetch_add(&filling->next, CHUNK_FILLS, __ATOMIC_RELAXED);
        uint64_t left = first < plan->fill_count ? plan->fill_count - first : 0;

        if (left == 0)
            break;
        fill_chunk(filling, &plan->fills[first], left < CHUNK_FILLS ? left : CHUNK_FILLS);
    }
    return NULL;
}

static void fill_plan(struct filling *filling)
{
    unsigned wanted = sys_worker_count(filling->plan->fill_count, FILLS_THREAD, THREADS_MAX),
             started = 0;
    pthread_t threads[THREADS_MAX];

    filling->next = 0;
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, fill_some, filling) == 0)
        started++;
    (void)fill_some(filling);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
}

int contents_fill(struct restore_job *job, int pid)
{
    struct filling filling = {.job = job, .pid = pid};
    struct stat stat;
    int status = sys_fstat(job->pool.fd, &stat);
    size_t bytes = status == 0 ? (size_t)stat.st_size : 0;
    void *frames;

    if (status != 0 || bytes == 0)
        return problem_set(job->why, status ? status : STATUS_DAMAGED, "%s: cannot be read",
                           job->pool.path);
    frames = sys_mmap(NULL, bytes, PROT_READ, MAP_SHARED, job->pool.fd, 0);
    if (sys_failed((long)frames))
        return problem_set(job->why, (int)(long)frames, "%s: mmap: %s", job->pool.path,
                           status_text((int)(long)frames));
    filling.frames = frames;
    filling.frame_count = bytes / FRAME_BYTES;
    for (uint32_t i = 0; i < job->plan_count && filling.failed == 0; i++) {
        filling.plan = &job->plans[i];
        contents_warm(job, filling.plan, filling.frames, filling.frame_count);
        fill_plan(&filling);
    }
    (void)sys_munmap(frames, bytes);
    return filling.failed;
}
