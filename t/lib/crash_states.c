/*
 * crash_states.c - see crash_states.h. The scratch file is mapped; a state is made by copying
 * pending units into it and undone from `durable`, what no cut can take away any more.
 *
 * Always true between two states: the scratch file is `durable`; `pending` has the operations
 * before the cut that are not in it, in program order.
 */
#include "t/lib/crash_states.h"
#include "t/lib/test_random.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/base/sys.h"

#define IMAGE_LIMIT (64ull << 20)

struct builder {
    struct crash_run *run;
    int fd;
    uint8_t *image;         /* the scratch file, mapped */
    uint8_t *durable;       /* what the last sync has covered */
    uint64_t durable_bytes; /* length of the file then */
    uint64_t file_bytes;    /* length of the scratch file now */
    size_t *pending;        /* in the trace */
    size_t pending_count;
    size_t position; /* the cut: operations before it */
    uint64_t unit_bytes;
    uint32_t *lost_in; /* a cache line: number of the state in which a store to it was lost */
    uint32_t state;
    uint64_t random;
};

/* Decides about unit number `unit` of pending operation number k. */
typedef bool unit_survives(struct builder *builder, size_t k, uint64_t unit, uint64_t choice);

static uint64_t next_random(struct builder *builder)
{
    return test_random(&builder->random);
}

static void set_file_bytes(struct builder *builder, uint64_t bytes)
{
    if (bytes > IMAGE_LIMIT || (bytes != builder->file_bytes && ftruncate(builder->fd, bytes))) {
        perror("crash_states: scratch file");
        exit(1);
    }
    builder->file_bytes = bytes;
}

static const struct recorded *pending(const struct builder *builder, size_t k)
{
    return &builder->run->recording->trace[builder->pending[k]];
}

static uint64_t units_of(const struct builder *builder, const struct recorded *op)
{
    return (op->bytes + builder->unit_bytes - 1) / builder->unit_bytes;
}

/* Of a unit: its place in the operation's data. */
static uint64_t unit_range(const struct builder *builder, const struct recorded *op, uint64_t unit,
                           uint64_t *from)
{
    *from = unit * builder->unit_bytes;
    return op->bytes - *from < builder->unit_bytes ? op->bytes - *from : builder->unit_bytes;
}

/* A write makes the file as long as it needs; a store to what is not in the file is lost. */
static void put_unit(struct builder *builder, const struct recorded *op, uint64_t unit)
{
    uint64_t from, bytes = unit_range(builder, op, unit, &from);
    uint64_t end = op->offset + from + bytes;

    if (end > builder->file_bytes && op->by_store)
        return;
    if (end > builder->file_bytes)
        set_file_bytes(builder, end);
    memcpy(builder->image + op->offset + from, op->data + from, bytes);
}

/* A cache line that has lost a store cannot have a later one. */
static bool may_follow(struct builder *builder, const struct recorded *op, uint64_t unit,
                       bool survives)
{
    uint32_t *lost_in = &builder->lost_in[op->offset / CRASH_LINE_BYTES + unit];

    if (builder->run->media != CRASH_DAX)
        return survives;
    if (*lost_in == builder->state)
        return false;
    if (!survives)
        *lost_in = builder->state;
    return survives;
}

static void apply_one(struct builder *builder, size_t k, unit_survives *survives, uint64_t choice)
{
    const struct recorded *op = pending(builder, k);

    if (op->kind == RECORDED_GROW && survives(builder, k, 0, choice) &&
        op->offset > builder->file_bytes)
        set_file_bytes(builder, op->offset);
    for (uint64_t unit = 0; op->kind == RECORDED_WRITE && unit < units_of(builder, op); unit++)
        if (may_follow(builder, op, unit, survives(builder, k, unit, choice)))
            put_unit(builder, op, unit);
}

static void apply(struct builder *builder, unit_survives *survives, uint64_t choice)
{
    builder->state++;
    for (size_t k = 0; k < builder->pending_count; k++)
        apply_one(builder, k, survives, choice);
}

static void undo(struct builder *builder, bool all)
{
    set_file_bytes(builder, builder->durable_bytes);
    if (all)
        memcpy(builder->image, builder->durable, builder->durable_bytes);
    for (size_t k = 0; k < builder->pending_count; k++) {
        const struct recorded *op = pending(builder, k);
        uint64_t end = op->offset + op->bytes;

        if (op->kind != RECORDED_WRITE || op->offset >= builder->durable_bytes)
            continue;
        if (end > builder->durable_bytes)
            end = builder->durable_bytes;
        memcpy(builder->image + op->offset, builder->durable + op->offset, end - op->offset);
    }
}

static void judge(struct builder *builder, unit_survives *survives, uint64_t choice)
{
    struct crash_run *run = builder->run;
    bool changed = false;

    if (run->failed)
        return;
    apply(builder, survives, choice);
    run->states++;
    if (!run->judge(run->context, run->path, builder->position, &changed))
        run->failed = true;
    if (changed)
        builder->file_bytes = UINT64_MAX; /* unknown: the judge may have made it grow */
    undo(builder, changed);
}

/* --- which units survive --- */

static bool all_kept(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    (void)builder, (void)k, (void)unit, (void)choice;
    return true;
}

static bool all_lost(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    return !all_kept(builder, k, unit, choice);
}

static bool one_lost(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    (void)builder, (void)unit;
    return k != choice;
}

static bool one_kept(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    return !one_lost(builder, k, unit, choice);
}

/* choice: one bit a pending operation. */
static bool subset_kept(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    (void)builder, (void)unit;
    return choice >> (k % 64) & 1;
}

/* The last operation is torn, choice having one bit a unit; all before it is there. */
static bool last_torn(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    return k + 1 < builder->pending_count || (choice >> (unit % 64) & 1);
}

/* The same with all before it lost. */
static bool last_torn_alone(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    return k + 1 == builder->pending_count && (choice >> (unit % 64) & 1);
}

static bool any_units(struct builder *builder, size_t k, uint64_t unit, uint64_t choice)
{
    (void)k, (void)unit, (void)choice;
    return next_random(builder) >> 40 & 1;
}

/* --- the points --- */

/* A mask of the units of op that differ from what is durable, for at most 64 units. */
static uint64_t changing_units(const struct builder *builder, const struct recorded *op)
{
    uint64_t mask = 0;

    for (uint64_t unit = 0; unit < units_of(builder, op); unit++) {
        uint64_t from, bytes = unit_range(builder, op, unit, &from);

        if (memcmp(builder->durable + op->offset + from, op->data + from, bytes) != 0)
            mask |= 1ull << unit;
    }
    return mask;
}

static void try_torn_small(struct builder *builder, uint64_t changing)
{
    uint64_t subset = 0;

    do { /* all subsets of a mask, in counting order */
        judge(builder, last_torn, subset);
        subset = (subset - changing) & changing;
    } while (subset != 0);
}

static void try_torn(struct builder *builder, const struct recorded *last)
{
    uint64_t units = last->kind == RECORDED_WRITE ? units_of(builder, last) : 0, changing;

    if (units > 0 && units <= 64) {
        changing = changing_units(builder, last);
        if (__builtin_popcountll(changing) <= CRASH_TORN) {
            try_torn_small(builder, changing);
            return;
        }
        for (uint64_t unit = 0; unit < units; unit++) {
            judge(builder, last_torn, ~(1ull << unit));
            judge(builder, last_torn, 1ull << unit);
        }
    }
    for (unsigned i = 0; units > 0 && i < CRASH_RANDOM; i++) {
        judge(builder, last_torn, next_random(builder));
        judge(builder, last_torn_alone, next_random(builder));
    }
}

static void try_point(struct builder *builder)
{
    size_t count = builder->pending_count;

    judge(builder, all_kept, 0);
    if (count == 0)
        return;
    judge(builder, all_lost, 0);
    for (size_t k = 0; k < count; k++) {
        judge(builder, one_lost, k);
        judge(builder, one_kept, k);
    }
    for (uint64_t choice = 0; count <= CRASH_SUBSETS && choice < 1ull << count; choice++)
        judge(builder, subset_kept, choice);
    for (unsigned i = 0; count > CRASH_SUBSETS && i < CRASH_RANDOM; i++)
        judge(builder, subset_kept, next_random(builder));
    if (builder->pending[count - 1] + 1 == builder->position)
        try_torn(builder, pending(builder, count - 1));
    for (unsigned i = 0; i < CRASH_RANDOM; i++)
        judge(builder, any_units, 0);
}

/* --- what becomes durable --- */

static bool is_covered(const struct builder *builder, const struct recorded *op,
                       enum recorded_cover cover)
{
    if (op->kind == RECORDED_WRITE && op->by_store &&
        op->offset + op->bytes > builder->durable_bytes)
        return false; /* the file is not that long after a cut */
    return op->cover <= cover;
}

static bool overlap(const struct recorded *a, const struct recorded *b)
{
    return a->kind == RECORDED_WRITE && b->kind == RECORDED_WRITE &&
           a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* An operation that is overtaken by a later one on the same bytes is not in this model. */
static void check_order(const struct builder *builder, size_t left, const struct recorded *op)
{
    for (size_t k = 0; k < left; k++)
        if (overlap(pending(builder, k), op)) {
            fprintf(stderr, "crash_states: a covered write overtakes one that is not\n");
            exit(1);
        }
}

static void settle(struct builder *builder, enum recorded_cover cover)
{
    size_t left = 0;

    builder->state++;
    for (size_t k = 0; k < builder->pending_count; k++) {
        if (!is_covered(builder, pending(builder, k), cover)) {
            builder->pending[left++] = builder->pending[k];
            continue;
        }
        check_order(builder, left, pending(builder, k));
        apply_one(builder, k, all_kept, 0);
        if (pending(builder, k)->kind == RECORDED_GROW)
            builder->durable_bytes = builder->file_bytes;
    }
    builder->pending_count = left;
    builder->durable_bytes = builder->file_bytes;
    memcpy(builder->durable, builder->image, builder->durable_bytes);
}

static void take(struct builder *builder, size_t i)
{
    const struct recorded *op = &builder->run->recording->trace[i];

    builder->position = i + 1;
    if (op->kind == RECORDED_SYNC)
        settle(builder, op->cover);
    else if (op->kind != RECORDED_MARK)
        builder->pending[builder->pending_count++] = i;
    if (op->kind == RECORDED_GROW && op->durable) {
        builder->pending_count--;
        set_file_bytes(builder, op->offset);
        builder->durable_bytes = builder->file_bytes;
    }
}

static void open_scratch(struct builder *builder)
{
    size_t operations = builder->run->recording->count;

    builder->fd = open(builder->run->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    builder->image = mmap(NULL, IMAGE_LIMIT, PROT_READ | PROT_WRITE, MAP_SHARED, builder->fd, 0);
    builder->durable = calloc(1, IMAGE_LIMIT);
    builder->lost_in = calloc(IMAGE_LIMIT / CRASH_LINE_BYTES, sizeof *builder->lost_in);
    builder->pending = calloc(operations + 1, sizeof *builder->pending);
    if (builder->fd < 0 || builder->image == MAP_FAILED || builder->durable == NULL ||
        builder->lost_in == NULL || builder->pending == NULL) {
        perror("crash_states: scratch file");
        exit(1);
    }
}

void crash_states_run(struct crash_run *run)
{
    struct builder builder = {
        .run = run,
        .random = run->seed | 1,
        .unit_bytes = run->media == CRASH_DAX ? CRASH_LINE_BYTES : CRASH_SECTOR_BYTES,
    };

    run->states = 0;
    run->failed = false;
    open_scratch(&builder);
    for (size_t i = 0; i < run->recording->count && !run->failed; i++) {
        take(&builder, i);
        if (i < run->first_judged)
            continue;
        if (run->recording->trace[i].kind != RECORDED_MARK)
            try_point(&builder);
        else /* acknowledged: it must be there whatever is pending */
            judge(&builder, all_lost, 0);
    }
    munmap(builder.image, IMAGE_LIMIT);
    free(builder.durable);
    free(builder.lost_in);
    free(builder.pending);
    close(builder.fd);
}

/* --- for judges --- */

int crash_acked_at(const struct recording *recording, size_t position)
{
    int acked = -1;

    for (size_t i = 0; i < position; i++)
        if (recording->trace[i].kind == RECORDED_MARK)
            acked = (int)recording->trace[i].mark;
    return acked;
}

void crash_record_file(struct recording *recording, const char *path, const char *copy_path)
{
    int fd = sys_open(path, O_RDONLY, 0);
    int copy = sys_open(copy_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct persist persist;
    struct stat info;
    uint8_t *bytes;

    if (fd < 0 || copy < 0 || sys_fstat(fd, &info) < 0 || ftruncate(copy, info.st_size) < 0)
        abort();
    bytes = malloc((size_t)info.st_size);
    persist_open_file(&persist, copy, (uint64_t)info.st_size);
    recording_attach(recording, &persist);
    if (bytes == NULL || sys_pread_all(fd, bytes, (size_t)info.st_size, 0) < 0 ||
        persist_write(&persist, 0, bytes, (size_t)info.st_size) < 0 || persist_sync(&persist) < 0)
        abort();
    free(bytes);
    sys_close(copy);
    sys_close(fd);
}
