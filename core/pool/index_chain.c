/*
 * index_chain.c - see index_chain.h. Everything that a delta from the file may get wrong is found
 * while the chain is read, so that who goes through it has nothing to check.
 */
#include "core/pool/index_chain.h"

#include <errno.h>

#include "core/base/checksum.h"
#include "core/base/sys.h"

static uint64_t page_of(const struct delta_entry *entry)
{
    return entry->page_and_more & (INDEX_PAGE_LIMIT - 1);
}

static uint64_t end_of(const struct delta_entry *entry)
{
    return page_of(entry) + (entry->page_and_more >> DELTA_PAGE_BITS) + 1;
}

static bool is_in_order(const struct index_delta *delta)
{
    uint64_t passed = 0;

    for (uint64_t i = 0; i < delta->entry_count; i++) {
        const struct delta_entry *entry = &delta->entries[i];
        uint64_t page = page_of(entry), end = end_of(entry);

        if (page < passed || end > INDEX_PAGE_LIMIT ||
            (entry->entry.frame != FRAME_NONE && end > page + 1))
            return false;
        passed = end;
    }
    return true;
}

static int read_delta(struct arena *arena, int fd, const struct delta_place *place,
                      const struct index_delta **out)
{
    uint64_t file_frames, bytes;
    struct index_delta *delta;
    struct stat info;
    int status = sys_fstat(fd, &info);

    if (status < 0)
        return status;
    file_frames = (uint64_t)info.st_size >> FRAME_SHIFT;
    if (place->frame < FRAME_FIRST || place->frame >= file_frames ||
        place->frames > file_frames - place->frame)
        return STATUS_DAMAGED;
    bytes = place->frames << FRAME_SHIFT;
    delta = arena_alloc(arena, bytes, 64);
    if (delta == NULL)
        return -ENOMEM;
    status = sys_pread_all(fd, delta, bytes, place->frame << FRAME_SHIFT);
    if (status < 0)
        return status;
    if (checksum64(delta, bytes) != place->checksum ||
        delta->entry_count > (bytes - sizeof *delta) / sizeof delta->entries[0] ||
        !is_in_order(delta))
        return STATUS_DAMAGED;
    *out = delta;
    return 0;
}

static void reverse(struct delta_chain *chain)
{
    for (unsigned i = 0, k = chain->count - 1; i < chain->count / 2; i++, k--) {
        const struct delta_place place = chain->places[i];
        const struct index_delta *delta = chain->deltas[i];

        chain->places[i] = chain->places[k];
        chain->deltas[i] = chain->deltas[k];
        chain->places[k] = place;
        chain->deltas[k] = delta;
    }
}

/* The file tells the newest first. */
int delta_chain_read(struct delta_chain *chain, struct arena *arena, int fd,
                     struct delta_place newest)
{
    struct delta_place place = newest;

    chain->count = 0;
    chain->damaged_frame = 0;
    while (place.frames > 0) {
        int status = chain->count < DELTAS_MAX
                         ? read_delta(arena, fd, &place, &chain->deltas[chain->count])
                         : STATUS_DAMAGED;

        if (status < 0) {
            chain->damaged_frame = place.frame;
            return status;
        }
        chain->places[chain->count] = place;
        place = chain->deltas[chain->count++]->before;
    }
    reverse(chain);
    return 0;
}

uint64_t delta_chain_entries(const struct delta_chain *chain)
{
    uint64_t entries = 0;

    for (unsigned i = 0; i < chain->count; i++)
        entries += chain->deltas[i]->entry_count;
    return entries;
}

struct delta_cursor delta_cursor_at(const struct index_delta *delta, uint64_t page)
{
    uint64_t low = 0, high = delta->entry_count;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (end_of(&delta->entries[middle]) <= page)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < delta->entry_count && page_of(&delta->entries[low]) > page)
        page = page_of(&delta->entries[low]);
    return (struct delta_cursor){delta, low, page};
}

bool delta_cursor_take(struct delta_cursor *cursor, uint64_t limit, struct delta_piece *out)
{
    const struct delta_entry *entry = &cursor->delta->entries[cursor->at];

    if (delta_cursor_page(cursor) >= limit)
        return false;
    *out = (struct delta_piece){cursor->page, end_of(entry), entry->entry};
    if (out->end > limit) {
        out->end = cursor->page = limit;
        return true;
    }
    if (++cursor->at < cursor->delta->entry_count)
        cursor->page = page_of(entry + 1);
    return true;
}

unsigned delta_cursor_count(const struct delta_cursor *cursor, uint64_t limit, unsigned most)
{
    unsigned count = 0;

    while (count < most && cursor->at + count < cursor->delta->entry_count &&
           page_of(&cursor->delta->entries[cursor->at + count]) < limit)
        count++;
    return count;
}
