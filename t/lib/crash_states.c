/*
 * crash_states.c - see crash_states.h. The scratch file is mapped; a state is made by copying
 * pending sectors into it and undone from `durable`, the content at the last sync.
 */
#include "t/lib/crash_states.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define IMAGE_LIMIT (64ull << 20)

struct builder {
    struct crash_run *run;
    int fd;
    uint8_t *image;         /* the scratch file, mapped */
    uint8_t *durable;       /* what the last sync has covered */
    uint64_t durable_bytes; /* length of the file then */
    uint64_t file_bytes;    /* length of the scratch file now */
    size_t first_pending;   /* in the trace */
    size_t position;        /* the cut: operations before it */
    uint64_t random;
};

/* Decides about sector `sector` of pending operation number i (of the trace). */
typedef bool sector_survives(struct builder *builder, size_t i, uint64_t sector, uint64_t choice);

static uint64_t next_random(struct builder *builder)
{
    builder->random ^= builder->random << 13;
    builder->random ^= builder->random >> 7;
    builder->random ^= builder->random << 17;
    return builder->random;
}

static void set_file_bytes(struct builder *builder, uint64_t bytes)
{
    if (bytes > IMAGE_LIMIT || (bytes != builder->file_bytes && ftruncate(builder->fd, bytes))) {
        perror("crash_states: scratch file");
        exit(1);
    }
    builder->file_bytes = bytes;
}

static const struct recorded *operation(const struct builder *builder, size_t i)
{
    return &builder->run->recording->trace[i];
}

static uint64_t sectors_of(const struct recorded *op)
{
    return (op->bytes + CRASH_SECTOR_BYTES - 1) / CRASH_SECTOR_BYTES;
}

static void put_sector(struct builder *builder, const struct recorded *op, uint64_t sector)
{
    uint64_t from = sector * CRASH_SECTOR_BYTES;
    uint64_t bytes = op->bytes - from < CRASH_SECTOR_BYTES ? op->bytes - from : CRASH_SECTOR_BYTES;

    if (op->offset + from + bytes > builder->file_bytes)
        set_file_bytes(builder, op->offset + from + bytes);
    memcpy(builder->image + op->offset + from, op->data + from, bytes);
}

static void apply(struct builder *builder, sector_survives *survives, uint64_t choice)
{
    for (size_t i = builder->first_pending; i < builder->position; i++) {
        const struct recorded *op = operation(builder, i);

        if (op->kind == RECORDED_GROW && survives(builder, i, 0, choice) &&
            op->offset > builder->file_bytes)
            set_file_bytes(builder, op->offset);
        for (uint64_t s = 0; op->kind == RECORDED_WRITE && s < sectors_of(op); s++)
            if (survives(builder, i, s, choice))
                put_sector(builder, op, s);
    }
}

static void undo(struct builder *builder, bool all)
{
    set_file_bytes(builder, builder->durable_bytes);
    if (all)
        memcpy(builder->image, builder->durable, builder->durable_bytes);
    for (size_t i = builder->first_pending; i < builder->position; i++) {
        const struct recorded *op = operation(builder, i);
        uint64_t end = op->offset + op->bytes;

        if (op->kind != RECORDED_WRITE || op->offset >= builder->durable_bytes)
            continue;
        if (end > builder->durable_bytes)
            end = builder->durable_bytes;
        memcpy(builder->image + op->offset, builder->durable + op->offset, end - op->offset);
    }
}

static void judge(struct builder *builder, sector_survives *survives, uint64_t choice)
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

/* --- which sectors survive --- */

static bool all_kept(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    (void)builder, (void)i, (void)sector, (void)choice;
    return true;
}

static bool all_lost(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    return !all_kept(builder, i, sector, choice);
}

static bool one_lost(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    (void)builder, (void)sector;
    return i != choice;
}

static bool one_kept(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    return !one_lost(builder, i, sector, choice);
}

/* choice: one bit a pending operation. */
static bool subset_kept(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    (void)sector;
    return choice >> ((i - builder->first_pending) % 64) & 1;
}

/* The last operation is torn, choice having one bit a sector; all before it is there. */
static bool last_torn(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    return i + 1 < builder->position || (choice >> (sector % 64) & 1);
}

/* The same with all before it lost. */
static bool last_torn_alone(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    return i + 1 == builder->position && (choice >> (sector % 64) & 1);
}

static bool any_sectors(struct builder *builder, size_t i, uint64_t sector, uint64_t choice)
{
    (void)i, (void)sector, (void)choice;
    return next_random(builder) >> 40 & 1;
}

static void try_torn(struct builder *builder)
{
    const struct recorded *last = operation(builder, builder->position - 1);
    uint64_t sectors = last->kind == RECORDED_WRITE ? sectors_of(last) : 0;

    if (sectors > 0 && sectors <= 8) {
        for (uint64_t choice = 0; choice < 1ull << sectors; choice++)
            judge(builder, last_torn, choice);
        return;
    }
    for (unsigned i = 0; sectors > 0 && i < CRASH_RANDOM; i++) {
        judge(builder, last_torn, next_random(builder));
        judge(builder, last_torn_alone, next_random(builder));
    }
}

static void try_point(struct builder *builder)
{
    size_t pending = builder->position - builder->first_pending;

    judge(builder, all_kept, 0);
    if (pending == 0)
        return;
    judge(builder, all_lost, 0);
    for (size_t i = builder->first_pending; i < builder->position; i++) {
        judge(builder, one_lost, i);
        judge(builder, one_kept, i);
    }
    for (uint64_t choice = 0; pending <= CRASH_SUBSETS && choice < 1ull << pending; choice++)
        judge(builder, subset_kept, choice);
    for (unsigned i = 0; pending > CRASH_SUBSETS && i < CRASH_RANDOM; i++)
        judge(builder, subset_kept, next_random(builder));
    try_torn(builder);
    for (unsigned i = 0; i < CRASH_RANDOM; i++)
        judge(builder, any_sectors, 0);
}

static void make_durable(struct builder *builder)
{
    apply(builder, all_kept, 0);
    builder->durable_bytes = builder->file_bytes;
    memcpy(builder->durable, builder->image, builder->durable_bytes);
    builder->first_pending = builder->position;
}

static void open_scratch(struct builder *builder)
{
    builder->fd = open(builder->run->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    builder->image = mmap(NULL, IMAGE_LIMIT, PROT_READ | PROT_WRITE, MAP_SHARED, builder->fd, 0);
    builder->durable = calloc(1, IMAGE_LIMIT);
    if (builder->fd < 0 || builder->image == MAP_FAILED || builder->durable == NULL) {
        perror("crash_states: scratch file");
        exit(1);
    }
}

void crash_states_run(struct crash_run *run)
{
    struct builder builder = {.run = run, .random = run->seed | 1};

    run->states = 0;
    run->failed = false;
    open_scratch(&builder);
    for (size_t i = 0; i < run->recording->count && !run->failed; i++) {
        enum recorded_kind kind = operation(&builder, i)->kind;

        builder.position = i + 1;
        if (kind == RECORDED_SYNC)
            make_durable(&builder);
        if (i < run->first_judged)
            continue;
        if (kind != RECORDED_MARK)
            try_point(&builder);
        else /* acknowledged: it must be there whatever is pending */
            judge(&builder, all_lost, 0);
        if (kind == RECORDED_MARK && builder.first_pending == i)
            builder.first_pending = i + 1;
    }
    munmap(builder.image, IMAGE_LIMIT);
    free(builder.durable);
    close(builder.fd);
}
