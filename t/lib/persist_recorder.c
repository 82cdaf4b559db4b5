/*
 * persist_recorder.c - see persist_recorder.h. An operation that was made to fail is not in the
 * trace: the state of the file after it is what the enumerator makes of the operations before.
 */
#include "t/lib/persist_recorder.h"

#include <libpmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t last_when;

static void append(struct recording *recording, struct recorded operation)
{
    operation.when = ++last_when;
    if (recording->count == recording->capacity) {
        recording->capacity = recording->capacity ? recording->capacity * 2 : 256;
        recording->trace =
            realloc(recording->trace, recording->capacity * sizeof recording->trace[0]);
        if (recording->trace == NULL) {
            perror("recording");
            exit(1);
        }
    }
    recording->trace[recording->count++] = operation;
}

static bool is_to_fail(struct recording *recording, enum recorded_kind kind)
{
    if (++recording->operations != recording->fail_at)
        return false;
    recording->failed_kind = kind;
    return true;
}

static void append_write(struct recording *recording, struct recorded operation, const void *data)
{
    size_t bytes = operation.bytes;

    operation.kind = RECORDED_WRITE;
    operation.data = malloc(bytes);
    if (operation.data == NULL) {
        perror("recording");
        exit(1);
    }
    memcpy(operation.data, data, bytes);
    append(recording, operation);
}

static int record_write(struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    struct recording *recording = persist->recorder;

    if (is_to_fail(recording, RECORDED_WRITE))
        return recording->fail_status;
    if (offset + bytes > persist->dax.mapped_bytes) /* else pmem_copy() sees it */
        append_write(recording,
                     (struct recorded){.cover = COVER_FILE_SYNC, .offset = offset, .bytes = bytes},
                     data);
    return recording->inner->write(persist, offset, data, bytes);
}

static int record_sync(struct persist *persist)
{
    struct recording *recording = persist->recorder;
    uint64_t file_syncs = persist->file_syncs;
    struct recorded operation = {.kind = RECORDED_SYNC};
    int status;

    if (is_to_fail(recording, RECORDED_SYNC))
        return recording->fail_status;
    recording->fenced = false;
    recording->in_sync = true;
    status = recording->inner->sync(persist);
    recording->in_sync = false;
    if (persist->file_syncs > file_syncs)
        operation.cover = COVER_FILE_SYNC;
    else if (recording->fenced)
        operation.cover = COVER_FENCE;
    append(recording, operation);
    return status;
}

static int record_grow(struct persist *persist, uint64_t file_bytes)
{
    struct recording *recording = persist->recorder;
    uint64_t file_syncs = persist->file_syncs;
    int status;

    if (is_to_fail(recording, RECORDED_GROW))
        return recording->fail_status;
    status = recording->inner->grow(persist, file_bytes);
    append(recording, (struct recorded){.kind = RECORDED_GROW,
                                        .offset = file_bytes,
                                        .cover = COVER_FILE_SYNC,
                                        .durable = persist->file_syncs > file_syncs});
    return status;
}

/* Says nothing of content: not in the trace. */
static int record_reserve(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    struct recording *recording = persist->recorder;

    if (is_to_fail(recording, RECORDED_GROW))
        return recording->fail_status;
    return recording->inner->reserve(persist, offset, bytes);
}

/* To a power cut, zeroes that are written. */
static int record_punch(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    struct recording *recording = persist->recorder;
    struct recorded operation = {.kind = RECORDED_WRITE, .offset = offset, .bytes = bytes};

    operation.data = calloc(1, bytes);
    if (operation.data == NULL) {
        perror("recording");
        exit(1);
    }
    append(recording, operation);
    return recording->inner->punch(persist, offset, bytes);
}

static const struct persist_ops recording_ops = {
    .write = record_write,
    .sync = record_sync,
    .grow = record_grow,
    .reserve = record_reserve,
    .punch = record_punch,
};

void recording_attach(struct recording *recording, struct persist *persist)
{
    recording->inner = persist->ops;
    persist->recorder = recording;
    persist->ops = &recording_ops;
}

/* --- in libpmem's place: its functions have no context --- */

#define DAX_RECORDINGS 2

static struct dax_place {
    struct recording *recording;
    const uint8_t *window;
    uint64_t bytes;
} dax_places[DAX_RECORDINGS];
static struct recording *dax_stored; /* last */

static const struct dax_place *place_of(const void *address)
{
    for (unsigned i = 0; i < DAX_RECORDINGS; i++)
        if (dax_places[i].recording && (const uint8_t *)address >= dax_places[i].window &&
            (const uint8_t *)address < dax_places[i].window + dax_places[i].bytes)
            return &dax_places[i];
    fprintf(stderr, "recording: a copy to no window\n");
    exit(1);
}

static void *pmem_copy(void *to, const void *from, size_t bytes, unsigned flags)
{
    const struct dax_place *place = place_of(to);
    const struct recorded operation = {
        .cover = flags & PMEM_F_MEM_NOFLUSH ? COVER_FILE_SYNC : COVER_FENCE,
        .by_store = true,
        .offset = (uint64_t)((const uint8_t *)to - place->window),
        .bytes = bytes,
    };

    append_write(place->recording, operation, from);
    dax_stored = place->recording;
    return memcpy(to, from, bytes);
}

static struct recording *fenced_one(void)
{
    for (unsigned i = 0; i < DAX_RECORDINGS; i++)
        if (dax_places[i].recording && dax_places[i].recording->in_sync)
            return dax_places[i].recording;
    return dax_stored;
}

/* Of a sync, or of a thread's own (persist_fence()). */
static void pmem_fence(void)
{
    struct recording *recording = fenced_one();

    recording->fenced = true;
    if (!recording->in_sync)
        append(recording, (struct recorded){.kind = RECORDED_SYNC, .cover = COVER_FENCE});
}

/* That of the same window, or one that is not in use. */
static struct dax_place *place_for(const void *window)
{
    struct dax_place *found = NULL;

    for (unsigned i = 0; i < DAX_RECORDINGS; i++)
        if (dax_places[i].window == window || (!found && !dax_places[i].window))
            found = &dax_places[i];
    return found;
}

int recording_attach_dax(struct recording *recording, struct persist *persist, void *window,
                         uint64_t window_bytes)
{
    const struct persist_pmem pmem = {pmem_copy, pmem_fence, true};
    struct dax_place *place = place_for(window);
    int status = persist_use_dax(persist, &pmem, window, window_bytes);

    if (!place)
        abort();
    *place = (struct dax_place){recording, window, window_bytes};
    dax_stored = recording;
    if (status == 0)
        recording_attach(recording, persist);
    return status;
}

void recording_mark(struct recording *recording, unsigned mark)
{
    append(recording, (struct recorded){.kind = RECORDED_MARK, .mark = mark});
}

void recording_free(struct recording *recording)
{
    for (size_t i = 0; i < recording->count; i++)
        free(recording->trace[i].data);
    free(recording->trace);
    *recording = (struct recording){0};
}
