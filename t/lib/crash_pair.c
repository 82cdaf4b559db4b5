/*
 * crash_pair.c - see crash_pair.h. Always true between two states: each file's `durable` is what no
 * cut can take away, `pending` what was written since, in program order.
 */
#include "t/lib/crash_pair.h"
#include "t/lib/test_random.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR_BYTES 512u
#define LIMIT_BYTES  (32ull << 20)

/* How much of what is pending is there. */
enum survivors { ALL, NONE, ONE_LOST, ONE_KEPT, LAST_TORN, RANDOM };

struct choice {
    enum survivors survivors;
    size_t k;
};

struct file {
    const struct recording *recording;
    const char *path;
    uint8_t *durable, *state;
    uint64_t durable_bytes;
    uint64_t written_end; /* nothing but zeroes lies behind */
    size_t *pending;
    size_t pending_count, next; /* of the trace */
    uint32_t *lost_in; /* a cache line: number of the state in which a store to it was lost */
};

struct builder {
    struct crash_pair *run;
    struct file files[2];
    uint64_t random, when;
    uint32_t number; /* of the state */
};

static void *need(void *memory)
{
    if (!memory) {
        perror("crash_pair");
        exit(1);
    }
    return memory;
}

static uint64_t next_random(struct builder *builder)
{
    return test_random(&builder->random);
}

/* --- one file's state --- */

static const struct recorded *pending(const struct file *file, size_t k)
{
    return &file->recording->trace[file->pending[k]];
}

static bool survives(struct builder *builder, const struct file *file, struct choice choice,
                     size_t k)
{
    switch (choice.survivors) {
    case ALL:
        return true;
    case NONE:
        return false;
    case ONE_LOST:
        return k != choice.k;
    case ONE_KEPT:
        return k == choice.k;
    case LAST_TORN:
        return k + 1 < file->pending_count || (next_random(builder) >> 40 & 1);
    default:
        return next_random(builder) >> 40 & 1;
    }
}

static bool is_by_unit(const struct file *file, struct choice choice, size_t k)
{
    return choice.survivors == RANDOM ||
           (choice.survivors == LAST_TORN && k + 1 == file->pending_count);
}

/* A cache line that has lost a store cannot have a later one. */
static bool may_follow(struct builder *builder, struct file *file, uint64_t offset, bool survives)
{
    uint32_t *lost_in = &file->lost_in[offset / CRASH_LINE_BYTES];

    if (builder->run->media != CRASH_DAX)
        return survives;
    if (*lost_in == builder->number)
        return false;
    if (!survives)
        *lost_in = builder->number;
    return survives;
}

/* A write makes the file as long as it needs; a store to what is not in the file is lost. */
static uint64_t put(struct file *file, const struct recorded *op, uint64_t from, uint64_t bytes,
                    uint64_t file_bytes)
{
    uint64_t end = op->offset + from + bytes;

    if (end > file_bytes && op->by_store)
        return file_bytes;
    memcpy(file->state + op->offset + from, op->data + from, bytes);
    return end > file_bytes ? end : file_bytes;
}

/* Returns the file's length. */
static uint64_t apply(struct builder *builder, struct file *file, struct choice choice, size_t k,
                      uint64_t file_bytes)
{
    const struct recorded *op = pending(file, k);
    uint64_t unit = builder->run->media == CRASH_DAX ? CRASH_LINE_BYTES : SECTOR_BYTES, bytes;
    bool by_unit = is_by_unit(file, choice, k);
    bool kept = by_unit || survives(builder, file, choice, k);

    if (op->kind == RECORDED_GROW) {
        kept = survives(builder, file, choice, k);
        return kept && op->offset > file_bytes ? op->offset : file_bytes;
    }
    for (uint64_t from = 0; from < op->bytes; from += bytes) {
        bytes = unit - (op->offset + from) % unit;
        if (bytes > op->bytes - from)
            bytes = op->bytes - from;
        if (by_unit)
            kept = survives(builder, file, choice, k);
        if (may_follow(builder, file, op->offset + from, kept))
            file_bytes = put(file, op, from, bytes, file_bytes);
    }
    return file_bytes;
}

static void write_file(const struct file *file, uint64_t file_bytes)
{
    int fd = open(file->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint64_t bytes = file->written_end < file_bytes ? file->written_end : file_bytes;

    if (fd < 0 || pwrite(fd, file->state, bytes, 0) != (ssize_t)bytes ||
        ftruncate(fd, (off_t)file_bytes) < 0) {
        perror("crash_pair: scratch file");
        exit(1);
    }
    close(fd);
}

static void build(struct builder *builder, struct file *file, struct choice choice)
{
    uint64_t file_bytes = file->durable_bytes;

    builder->number++;
    memcpy(file->state, file->durable, file->written_end);
    for (size_t k = 0; k < file->pending_count; k++)
        file_bytes = apply(builder, file, choice, k, file_bytes);
    write_file(file, file_bytes);
}

/* --- the states of a point --- */

static void judge(struct builder *builder, struct choice first, struct choice second)
{
    struct crash_pair *run = builder->run;

    if (run->failed)
        return;
    build(builder, &builder->files[0], first);
    build(builder, &builder->files[1], second);
    run->states++;
    run->failed = !run->judge(run->context, builder->when);
}

/* A state of one file with all and with none of the other. */
static void judge_beside(struct builder *builder, unsigned which, struct choice choice)
{
    for (enum survivors others = ALL; others <= NONE; others++)
        if (which == 0)
            judge(builder, choice, (struct choice){.survivors = others});
        else
            judge(builder, (struct choice){.survivors = others}, choice);
}

static void try_file(struct builder *builder, unsigned which)
{
    size_t count = builder->files[which].pending_count;

    for (size_t k = 0; count > 1 && k < count; k++) {
        judge_beside(builder, which, (struct choice){ONE_LOST, k});
        judge_beside(builder, which, (struct choice){ONE_KEPT, k});
    }
    if (count > 0)
        judge_beside(builder, which, (struct choice){LAST_TORN, 0});
}

static void try_point(struct builder *builder)
{
    const struct choice all = {ALL, 0}, none = {NONE, 0}, random = {RANDOM, 0};
    size_t pending_of_both = builder->files[0].pending_count + builder->files[1].pending_count;

    judge(builder, all, all);
    if (pending_of_both == 0)
        return;
    judge(builder, all, none);
    judge(builder, none, all);
    judge(builder, none, none);
    try_file(builder, 0);
    try_file(builder, 1);
    for (unsigned i = 0; i < CRASH_PAIR_RANDOM; i++)
        judge(builder, random, random);
}

/* --- the trace --- */

static bool is_covered(const struct file *file, const struct recorded *op,
                       enum recorded_cover cover)
{
    if (op->kind == RECORDED_WRITE && op->by_store && op->offset + op->bytes > file->durable_bytes)
        return false; /* the file is not that long after a cut */
    return op->cover <= cover;
}

static void settle(struct builder *builder, struct file *file, enum recorded_cover cover)
{
    size_t left = 0;

    builder->number++;
    memcpy(file->state, file->durable, file->written_end);
    for (size_t k = 0; k < file->pending_count; k++)
        if (is_covered(file, pending(file, k), cover))
            file->durable_bytes =
                apply(builder, file, (struct choice){ALL, 0}, k, file->durable_bytes);
        else
            file->pending[left++] = file->pending[k];
    memcpy(file->durable, file->state, file->written_end);
    file->pending_count = left;
}

static void take(struct builder *builder, struct file *file)
{
    const struct recorded *op = &file->recording->trace[file->next];

    if (op->offset + op->bytes > LIMIT_BYTES)
        exit(1);
    if (op->kind == RECORDED_WRITE && op->offset + op->bytes > file->written_end)
        file->written_end = op->offset + op->bytes;
    if (op->kind == RECORDED_SYNC)
        settle(builder, file, op->cover);
    else if (op->kind == RECORDED_GROW && op->durable && op->offset > file->durable_bytes)
        file->durable_bytes = op->offset;
    else if (op->kind != RECORDED_MARK)
        file->pending[file->pending_count++] = file->next;
    builder->when = op->when;
    file->next++;
}

/* The file whose next operation comes first; NULL: the trace is at its end. */
static struct file *next_file(struct builder *builder)
{
    struct file *found = NULL;

    for (unsigned i = 0; i < 2; i++) {
        struct file *file = &builder->files[i];

        if (file->next < file->recording->count &&
            (!found ||
             file->recording->trace[file->next].when < found->recording->trace[found->next].when))
            found = file;
    }
    return found;
}

void crash_pair_run(struct crash_pair *run)
{
    struct builder builder = {.run = run, .random = run->seed | 1};
    struct file *file;
    size_t taken = 0;

    run->states = 0;
    run->failed = false;
    for (unsigned i = 0; i < 2; i++) {
        file = &builder.files[i];
        file->recording = run->recordings[i];
        file->path = run->paths[i];
        file->durable = need(calloc(1, LIMIT_BYTES));
        file->state = need(calloc(1, LIMIT_BYTES));
        file->pending = need(calloc(file->recording->count + 1, sizeof *file->pending));
        file->lost_in = need(calloc(LIMIT_BYTES / CRASH_LINE_BYTES, sizeof *file->lost_in));
    }
    while (!run->failed && (file = next_file(&builder))) {
        take(&builder, file);
        if (taken++ >= run->first_judged)
            try_point(&builder);
    }
    for (unsigned i = 0; i < 2; i++) {
        free(builder.files[i].durable);
        free(builder.files[i].state);
        free(builder.files[i].pending);
        free(builder.files[i].lost_in);
    }
}
