/*
 * process_record.c - fuzz target: the decoder of process records. What it takes, everything that
 * rebuilds or shows a process uses without looking again: so this looks at all of it.
 */
#include <stdlib.h>
#include <string.h>
#include "core/base/arena.h"
#include "core/process/process_image.h"
#include "t/fuzz/target.h"

#define ARENA_BYTES (1ull << 30)

static unsigned long sum;

static void look_at(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum += ((const uint8_t *)bytes)[i];
}

static void look_at_text(const char *text)
{
    look_at(text, strlen(text));
}

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void look_at_threads(const struct process_image *image)
{
    must(image->thread_count > 0);
    for (uint32_t i = 0; i < image->thread_count; i++) {
        look_at(image->threads[i].record, sizeof *image->threads[i].record);
        look_at(image->threads[i].xstate, image->threads[i].record->xstate_bytes);
        look_at(image->threads[i].cpus, image->threads[i].cpu_bytes);
        must(image->threads[i].record->tid > 0);
    }
}

static void look_at_mappings(const struct process_image *image)
{
    uint64_t after = 0;

    for (uint32_t i = 0; i < image->file_count; i++)
        look_at_text(image->files[i].path);
    for (uint32_t i = 0; i < image->mapping_count; i++) {
        const struct record_mapping *mapping = image->mappings[i].record;

        must(mapping->start >= after && mapping->end > mapping->start &&
             mapping->end <= PROCESS_ADDRESS_LIMIT);
        after = mapping->end;
        look_at_text(image->mappings[i].name);
    }
}

static void look_at_descriptions(const struct process_image *image)
{
    for (uint32_t i = 0; i < image->description_count; i++)
        look_at_text(image->descriptions[i].path);
    for (uint32_t i = 0; i < image->pipe_count; i++)
        look_at(image->pipes[i].content, image->pipes[i].record->content_bytes);
    for (uint32_t i = 0; i < image->socket_count; i++)
        for (uint32_t k = 0; k < image->sockets[i].message_count; k++)
            look_at(image->sockets[i].messages[k].content, image->sockets[i].messages[k].bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    struct process_image image;
    struct problem why = {0};
    uint8_t *copy;

    if (arena.base == 0 && arena_create(&arena, ARENA_BYTES) < 0)
        abort();
    copy =
        malloc(size ? size : 1); /* of its own, aligned: what lies behind it is the sanitizer's */
    memcpy(copy, data, size);
    if (process_image_read(&image, copy, size, &arena, &why) == 0) {
        look_at_threads(&image);
        look_at_mappings(&image);
        look_at_descriptions(&image);
    } else {
        must(why.text[0] != 0);
    }
    arena_rewind(&arena, arena.base);
    free(copy);
    return 0;
}
