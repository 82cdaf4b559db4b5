/*
 * record.c - the process record's container: items behind one another, each with its length.
 *
 * Always true: a writer that failed writes nothing more, so a record is whole or refused; a reader
 * never looks beyond its buffer, whatever the lengths say.
 */
#include "core/process/record.h"

#include <string.h>

#define ITEM_HEADER_BYTES 8u

static size_t record_padded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

void *record_room(struct record_writer *writer, uint32_t kind, const void *fixed,
                  size_t fixed_bytes, size_t tail_bytes)
{
    size_t payload = fixed_bytes + tail_bytes;
    size_t total = ITEM_HEADER_BYTES + record_padded(payload);
    uint8_t *at = writer->buffer + writer->used;
    uint32_t header[2] = {kind, (uint32_t)payload};

    if (writer->failed != STATUS_OK)
        return NULL;
    if (payload > UINT32_MAX - ITEM_HEADER_BYTES || total > writer->size - writer->used) {
        writer->failed = STATUS_LIMIT;
        return NULL;
    }
    memcpy(at, header, sizeof header);
    if (fixed_bytes > 0)
        memcpy(at + ITEM_HEADER_BYTES, fixed, fixed_bytes);
    memset(at + ITEM_HEADER_BYTES + payload, 0, total - ITEM_HEADER_BYTES - payload);
    writer->used += total;
    return at + ITEM_HEADER_BYTES + fixed_bytes;
}

void record_put(struct record_writer *writer, uint32_t kind, const void *fixed, size_t fixed_bytes,
                const void *tail, size_t tail_bytes)
{
    void *room = record_room(writer, kind, fixed, fixed_bytes, tail_bytes);

    if (room != NULL && tail_bytes > 0)
        memcpy(room, tail, tail_bytes);
}

int record_next(struct record_reader *reader, struct record_item *item)
{
    size_t left = reader->size - reader->at;
    uint32_t header[2];

    if (reader->at > reader->size)
        return STATUS_DAMAGED;
    if (left == 0)
        return 0;
    if (left < ITEM_HEADER_BYTES)
        return STATUS_DAMAGED;
    memcpy(header, reader->buffer + reader->at, sizeof header);
    if (record_padded(header[1]) > left - ITEM_HEADER_BYTES)
        return STATUS_DAMAGED;
    item->kind = header[0];
    item->bytes = header[1];
    item->payload = reader->buffer + reader->at + ITEM_HEADER_BYTES;
    reader->at += ITEM_HEADER_BYTES + record_padded(header[1]);
    return 1;
}

const void *record_fixed(const struct record_item *item, size_t fixed_bytes)
{
    return item->bytes >= fixed_bytes ? item->payload : NULL;
}

const char *record_string(const struct record_item *item, size_t fixed_bytes)
{
    const uint8_t *tail = item->payload + fixed_bytes;

    if (item->bytes <= fixed_bytes || item->payload[item->bytes - 1] != 0)
        return NULL;
    return (const char *)tail;
}
