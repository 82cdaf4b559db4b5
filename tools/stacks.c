/*
 * stacks.c - see stacks.h.
 */
#include "tools/stacks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/command.h"
#include "tools/table.h"

int stacks_open(struct stacks *stacks, struct view *view, const struct block_map *map,
                struct problem *why)
{
    int status = profile_read(&stacks->reading, map, why);

    stacks->map = map;
    stacks->unwinder = NULL;
    if (status < 0 || stacks->reading.rate_bytes == 0)
        return status;
    status = unwind_open_names(&stacks->unwinder, view, why);
    if (status == 0 && why->status == STATUS_UNSUPPORTED)
        report("inspect", EXIT_FINE, "%s", why->text);
    return status;
}

int stacks_open_beside(struct inspection *inspection, struct stacks *stacks, struct view *view,
                       const struct block_map *map, struct problem *why)
{
    int status = stacks_open(stacks, view, map, why);

    if (status != STATUS_DAMAGED)
        return status;
    report("inspect", EXIT_FOUND, "%s", why->text);
    inspection->left_out++;
    *stacks = (struct stacks){0};
    *why = (struct problem){0};
    return 0;
}

void stacks_close(struct stacks *stacks)
{
    if (stacks->unwinder)
        unwind_close(stacks->unwinder);
    stacks->unwinder = NULL;
}

static json_t *text_or_null(const char *text)
{
    return text ? table_text(text, strcspn(text, "@")) : json_null();
}

json_t *stacks_frames(const struct stacks *stacks, uint32_t stack)
{
    const struct profile_stack *found = &stacks->reading.stacks[stack - 1];
    json_t *frames = json_array();

    for (uint32_t i = 0; i < found->frame_count; i++) {
        struct unwind_frame frame;
        char pc[32];

        unwind_name(stacks->unwinder, found->frames[i], true, &frame);
        snprintf(pc, sizeof pc, "0x%" PRIx64, frame.pc);
        json_array_append_new(
            frames, json_pack("{s:s, s:o, s:o, s:I, s:o, s:o}", "pc", pc, "function",
                              text_or_null(frame.function), "module", text_or_null(frame.module),
                              "offset", (json_int_t)frame.offset, "file", text_or_null(frame.file),
                              "line", frame.file ? json_integer(frame.line) : json_null()));
    }
    return frames;
}

static const char *member(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

const char *stacks_function(char buffer[300], const json_t *frame)
{
    const char *function = member(frame, "function"), *module = member(frame, "module");

    if (function)
        snprintf(buffer, 300, "%s", function);
    else if (module)
        snprintf(buffer, 300, "%s+0x%" PRIx64,
                 strrchr(module, '/') ? strrchr(module, '/') + 1 : module,
                 (uint64_t)json_integer_value(json_object_get(frame, "offset")));
    else
        snprintf(buffer, 300, "%s", member(frame, "pc") ? member(frame, "pc") : "?");
    return buffer;
}

json_t *stacks_site(const json_t *frames)
{
    char text[300];

    if (json_array_size(frames) == 0)
        return json_string("?");
    stacks_function(text, json_array_get(frames, 0));
    return table_text(text, strlen(text)); /* it may have been cut inside a character */
}

static json_t *stack_row(const struct stacks *stacks, uint32_t stack,
                         const struct profile_total *total)
{
    json_t *frames = stacks_frames(stacks, stack);

    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "bytes", (json_int_t)(total->bytes + 0.5),
                     "blocks", (json_int_t)(total->blocks + 0.5), "samples",
                     (json_int_t)total->samples, "sampled_so_far",
                     (json_int_t)stacks->reading.stacks[stack - 1].taken, "allocated_by",
                     stacks_site(frames), "frames", frames);
}

struct ranked {
    double bytes;
    uint32_t stack;
};

static int most_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes ? 1 : (int)x->stack - (int)y->stack;
}

json_t *stacks_rows(const struct stacks *stacks, const uint64_t *bits)
{
    uint32_t count = stacks->reading.stack_count, used = 0;
    struct profile_total *totals = calloc(count + 1ull, sizeof *totals);
    struct ranked *ranked = calloc(count + 1ull, sizeof *ranked);
    json_t *rows = json_array();

    if (totals && ranked && count) {
        profile_sum(&stacks->reading, stacks->map, bits, totals);
        for (uint32_t i = 0; i < count; i++)
            if (totals[i].samples)
                ranked[used++] = (struct ranked){totals[i].bytes, i + 1};
        qsort(ranked, used, sizeof *ranked, most_first);
        for (uint32_t i = 0; i < used; i++)
            json_array_append_new(rows,
                                  stack_row(stacks, ranked[i].stack, &totals[ranked[i].stack - 1]));
    }
    free(totals);
    free(ranked);
    return rows;
}

void stacks_print_frames(const json_t *frames)
{
    const json_t *frame;
    size_t i;

    json_array_foreach(frames, i, frame)
    {
        const char *file = member(frame, "file"), *module = member(frame, "module");
        char text[300];

        printf("      %s", stacks_function(text, frame));
        if (file)
            printf("  %s:%d", file, (int)json_integer_value(json_object_get(frame, "line")));
        else if (module)
            printf("  %s", module);
        putchar('\n');
    }
}

void stacks_print(const struct inspection *inspection, const json_t *rows, uint64_t limit)
{
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        int64_t samples = json_integer_value(json_object_get(row, "samples"));
        char heading[120], size[32];

        if (i == limit)
            break;
        snprintf(heading, sizeof heading,
                 "  about %s in %" PRId64 " blocks (%" PRId64 " %s), allocated by",
                 show_bytes(size, (uint64_t)json_integer_value(json_object_get(row, "bytes"))),
                 (int64_t)json_integer_value(json_object_get(row, "blocks")), samples,
                 samples == 1 ? "sample" : "samples");
        inspect_heading(inspection, heading);
        stacks_print_frames(json_object_get(row, "frames"));
    }
    if (json_array_size(rows) > limit)
        printf("  the first %" PRIu64 " of %zu; --limit N shows more\n", limit,
               json_array_size(rows));
}
