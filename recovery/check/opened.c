/*
 * opened.c - what core/tx makes of a slot: header, table of spans, notes of blocks, roots; and the
 * same after the log's entries.
 *
 * True always: a slice number is compared with TX_SLICES_MAX before it is an index; no slab has
 * more notes than its shape says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/tx/slab_shape.h"
#include "core/tx/slot_memory.h"
#include "recovery/check/opened_model.h"

static uint32_t slices_of_bytes(uint64_t bytes)
{
    return (uint32_t)((bytes + SLICE_BYTES - 1) >> SLICE_SHIFT);
}

static uint32_t state_of(const struct tx_note *note)
{
    return note->bytes_and_state & 3;
}

/* --- what the generation says --- */

/* One behind the last span whose entry lies in a page that is stored; a large one reaches further.
 */
static uint32_t stored_top(const struct heap_view *view)
{
    uint64_t start = (view->base + TX_SPANS_OFFSET) >> FRAME_SHIFT, top = TX_DATA_SLICE;
    uint64_t end = (view->base + (uint64_t)TX_DATA_SLICE * SLICE_BYTES) >> FRAME_SHIFT;

    for (uint64_t i = 0; i < view->page_count; i++) {
        uint64_t page = view->pages[i].page;

        if (page >= start && page < end)
            top = (page + 1 - start) * (FRAME_BYTES / sizeof(struct tx_span));
    }
    return top < TX_SLICES_MAX ? (uint32_t)top : TX_SLICES_MAX;
}

static void read_spans(struct opened_model *model)
{
    uint32_t per_page = FRAME_BYTES / sizeof(struct tx_span);

    model->top = stored_top(model->view);
    for (uint32_t slice = TX_DATA_SLICE / per_page * per_page; slice < model->top;
         slice += per_page)
        heap_view_read(model->view, &model->spans[slice], FRAME_BYTES,
                       model->view->base + TX_SPANS_OFFSET +
                           (uint64_t)slice * sizeof(struct tx_span));
}

static struct tx_note *make_notes(struct opened_model *model, uint32_t slice)
{
    uint32_t count = slab_shape_of(model->spans[slice].size_class).count;

    model->notes[slice] = calloc(count, sizeof *model->notes[slice]);
    return model->notes[slice];
}

static bool tell_span(struct opened_model *model, uint32_t slice)
{
    const struct tx_span *span = &model->spans[slice];

    heap_tell(model->view, OH_SPAN, view_slice_address(model->view, slice),
              "a span that begins here, or none", "kind %u, %u slices, class %u, %lu bytes",
              span->kind, span->slices, span->size_class, span->bytes);
    return false;
}

static int check_notes(struct opened_model *model, uint32_t slice)
{
    struct slab_shape shape = slab_shape_of(model->spans[slice].size_class);
    struct tx_note *notes = make_notes(model, slice);

    if (notes == NULL)
        return -ENOMEM;
    heap_view_read(model->view, notes, shape.count * sizeof *notes,
                   view_slice_address(model->view, slice));
    for (uint32_t i = 0; i < shape.count; i++)
        if (state_of(&notes[i]) > TX_USED || notes[i].bytes_and_state >> 2 > shape.block_bytes) {
            heap_tell(model->view, OH_NOTE, view_slice_address(model->view, slice) + i * 8ull,
                      "free or in use, no more bytes than the block has",
                      "block %u of %u bytes: state %u, %u bytes", i, shape.block_bytes,
                      state_of(&notes[i]), notes[i].bytes_and_state >> 2);
            return 0;
        }
    return 0;
}

static bool is_slab_right(const struct opened_model *model, uint32_t slice)
{
    const struct tx_span *span = &model->spans[slice];
    uint32_t slices = span->size_class < TX_CLASSES ? slab_shape_of(span->size_class).slices : 0;

    if (slices == 0 || slices != span->slices || slices > TX_SLICES_MAX - slice)
        return false;
    for (uint32_t i = 1; i < slices; i++)
        if (span[i].kind != TX_INSIDE || span[i].slices != i)
            return false;
    return true;
}

static bool are_bare(const struct opened_model *model, uint32_t slice, uint64_t count)
{
    if (count > TX_SLICES_MAX - slice)
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (model->spans[slice + i].kind != TX_NONE)
            return false;
    return true;
}

static bool is_large_right(const struct opened_model *model, uint32_t slice)
{
    const struct tx_span *span = &model->spans[slice];
    uint64_t most = (uint64_t)(TX_SLICES_MAX - slice) << SLICE_SHIFT;

    return span->bytes > 0 && span->bytes <= most && span->state == TX_USED &&
           span->slices == slices_of_bytes(span->bytes) &&
           are_bare(model, slice + 1, span->slices - 1);
}

/* Returns the span's slices; 0: it makes no sense. */
static uint32_t check_span(struct opened_model *model, uint32_t slice, int *status)
{
    const struct tx_span *span = &model->spans[slice];

    if (span->kind == TX_NONE)
        return 1;
    if (span->kind == TX_SLAB && is_slab_right(model, slice)) {
        *status = check_notes(model, slice);
        return span->slices;
    }
    if (span->kind == TX_LARGE && is_large_right(model, slice))
        return span->slices;
    (void)tell_span(model, slice);
    return 0;
}

static int check_spans(struct opened_model *model, bool *is_right)
{
    uint32_t slice = TX_DATA_SLICE, slices = 1;
    int status = 0;

    for (; status == 0 && slices > 0 && slice < model->top; slice += slices)
        slices = check_span(model, slice, &status);
    *is_right = slices > 0;
    model->top = slice > model->top ? slice : model->top;
    return status;
}

static bool check_header(struct heap_view *view)
{
    struct tx_header header;

    heap_view_read(view, &header, sizeof header, view->base);
    if (header.version == TX_VERSION && SLOT_BASE(header.slot) == view->base)
        return true;
    heap_tell(view, OH_HEADER, view->base, "version 1 and this slot", "version %u, slot %u",
              header.version, header.slot);
    return false;
}

int model_open(struct opened_model *model, struct heap_view *view, bool *is_right)
{
    memset(model, 0, sizeof *model);
    *is_right = false;
    model->view = view;
    if (!check_header(view))
        return 0;
    model->spans = calloc(TX_SLICES_MAX, sizeof *model->spans);
    model->notes = calloc(TX_SLICES_MAX, sizeof *model->notes);
    if (model->spans == NULL || model->notes == NULL)
        return -ENOMEM;
    read_spans(model);
    heap_view_read(view, model->roots, sizeof model->roots, view->base + TX_ROOTS_OFFSET);
    return check_spans(model, is_right);
}

void model_close(struct opened_model *model)
{
    for (uint32_t slice = 0; model->notes != NULL && slice < model->top; slice++)
        free(model->notes[slice]);
    free(model->notes);
    free(model->spans);
}

/* --- blocks --- */

struct model_block {
    struct tx_span *span;
    struct tx_note *note; /* NULL: a large one */
    uint64_t start, bytes;
};

/* The slice where the span begins that this one belongs to; 0: none does. A large one's slices
 * after the first say nothing, so they are gone back over: no further than to the last span. */
static uint32_t span_of(const struct opened_model *model, uint64_t slice)
{
    const struct tx_span *span = &model->spans[slice];

    if (span->kind == TX_INSIDE)
        return span->slices <= slice ? (uint32_t)slice - span->slices : 0;
    for (uint64_t at = slice; at >= TX_DATA_SLICE; at--)
        if (model->spans[at].kind != TX_NONE)
            return model->spans[at].kind == TX_LARGE && slice - at < model->spans[at].slices
                       ? (uint32_t)at
                   : at == slice ? (uint32_t)at
                                 : 0;
    return 0;
}

static bool find_in_slab(struct opened_model *model, uint32_t slice, uint64_t address,
                         struct model_block *block)
{
    struct slab_shape shape;
    uint64_t offset = address - view_slice_address(model->view, slice), index;

    if (block->span->size_class >= TX_CLASSES || model->notes[slice] == NULL)
        return false;
    shape = slab_shape_of(block->span->size_class);
    if (offset < shape.blocks_offset)
        return false;
    index = (offset - shape.blocks_offset) / shape.block_bytes;
    if (index >= shape.count)
        return false;
    block->note = &model->notes[slice][index];
    block->bytes = shape.block_bytes;
    block->start = address - offset + shape.blocks_offset + index * shape.block_bytes;
    return true;
}

static bool find_block(struct opened_model *model, uint64_t address, struct model_block *block)
{
    uint64_t slice = (address - model->view->base) >> SLICE_SHIFT;
    uint32_t first;

    memset(block, 0, sizeof *block);
    if (slice < TX_DATA_SLICE || slice >= TX_SLICES_MAX)
        return false;
    first = span_of(model, slice);
    if (first < TX_DATA_SLICE)
        return false;
    block->span = &model->spans[first];
    if (block->span->kind == TX_SLAB)
        return find_in_slab(model, first, address, block);
    block->start = view_slice_address(model->view, first);
    block->bytes = block->span->bytes;
    return block->span->kind == TX_LARGE;
}

static bool is_used(const struct model_block *block)
{
    return block->note ? state_of(block->note) == TX_USED : block->span->state == TX_USED;
}

/* --- the log's entries --- */

static const char *apply_slab_block(struct opened_model *model, const struct log_entry *entry)
{
    uint32_t slices = slab_shape_of(entry->size_class).slices;
    struct model_block block;

    if (are_bare(model, entry->slice, slices)) {
        model->spans[entry->slice] =
            (struct tx_span){.kind = TX_SLAB, .slices = slices, .size_class = entry->size_class};
        for (uint32_t i = 1; i < slices; i++)
            model->spans[entry->slice + i] = (struct tx_span){.kind = TX_INSIDE, .slices = i};
        if (make_notes(model, entry->slice) == NULL)
            return "memory to check it";
    }
    if (!find_block(model, entry->address, &block) || block.start != entry->address ||
        block.note == NULL || block.span != &model->spans[entry->slice] ||
        block.span->size_class != entry->size_class || entry->bytes > block.bytes)
        return "a block of the slab that it names";
    *block.note = (struct tx_note){entry->type, (uint32_t)entry->bytes << 2 | TX_USED};
    return NULL;
}

static const char *apply_alloc(struct opened_model *model, const struct log_entry *entry)
{
    uint64_t slices;

    if (entry->slice < TX_DATA_SLICE || entry->slice >= TX_SLICES_MAX ||
        entry->size_class > TX_CLASSES || entry->bytes == 0 ||
        entry->bytes > (uint64_t)TX_SLICES_MAX * SLICE_BYTES)
        return "a slice, a size class and a size that there are";
    slices = entry->size_class < TX_CLASSES ? slab_shape_of(entry->size_class).slices
                                            : slices_of_bytes(entry->bytes);
    if (slices > TX_SLICES_MAX - entry->slice)
        return "a span within the heap";
    if (entry->slice + slices > model->top)
        model->top = (uint32_t)(entry->slice + slices);
    if (entry->size_class < TX_CLASSES)
        return apply_slab_block(model, entry);
    if (entry->address != view_slice_address(model->view, entry->slice) ||
        !are_bare(model, entry->slice, slices))
        return "slices without a span, for a large block";
    model->spans[entry->slice] = (struct tx_span){.kind = TX_LARGE,
                                                  .slices = (uint32_t)slices,
                                                  .size_class = TX_CLASSES,
                                                  .type = entry->type,
                                                  .bytes = entry->bytes,
                                                  .state = TX_USED};
    return NULL;
}

/* Slices that are readable when a heap is opened, at least: some behind the last span are. */
static uint32_t accessible(const struct opened_model *model)
{
    return (model->top + SLOT_STEP_SLICES - 1) & ~(SLOT_STEP_SLICES - 1);
}

static const char *apply_write(struct opened_model *model, const struct log_entry *entry)
{
    uint64_t roots = model->view->base + TX_ROOTS_OFFSET, at = entry->address;
    uint64_t data = view_slice_address(model->view, TX_DATA_SLICE);
    uint64_t end = view_slice_address(model->view, accessible(model));
    uint64_t decisions = model->view->base + TX_DECISIONS_OFFSET;
    uint64_t types = model->view->base + TX_TYPES_OFFSET;
    uint64_t types_end = types + TX_TYPES * sizeof(struct tx_type);

    if (at >= types && at < types_end)
        return entry->bytes <= types_end - at ? NULL : "a write within the layouts of types";
    if (at >= decisions && at < decisions + TX_DECISIONS * sizeof(struct tx_decision))
        return entry->bytes <= decisions + TX_DECISIONS * sizeof(struct tx_decision) - at
                   ? NULL
                   : "a write within the decisions";
    if (at >= roots && at < roots + sizeof model->roots) {
        if (entry->bytes > roots + sizeof model->roots - at)
            return "a write within the roots";
        memcpy(model->roots + (at - roots), entry + 1, entry->bytes);
        return NULL;
    }
    return at >= data && at < end && entry->bytes <= end - at ? NULL
                                                              : "a write to the roots, or to data";
}

static const char *apply_free(struct opened_model *model, const struct log_entry *entry)
{
    struct model_block block;

    if (!find_block(model, entry->address, &block) || block.start != entry->address ||
        !is_used(&block))
        return "a block that is in use";
    if (block.note)
        *block.note = (struct tx_note){0, TX_FREE};
    else
        *block.span = (struct tx_span){.kind = TX_NONE};
    return NULL;
}

const char *model_apply(struct opened_model *model, const struct log_entry *entry)
{
    switch (entry->kind) {
    case LOG_ALLOC:
        return apply_alloc(model, entry);
    case LOG_WRITE:
        return apply_write(model, entry);
    case LOG_FREE:
        return apply_free(model, entry);
    default:
        return "an entry of a kind that there is";
    }
}

/* --- roots --- */

static void check_root(struct opened_model *model, uint64_t place, const struct tx_root *root)
{
    uint64_t data = view_slice_address(model->view, TX_DATA_SLICE);
    struct model_block block;
    uint32_t type;

    if (memchr(root->name, 0, TX_NAME_BYTES) == NULL || root->address < data ||
        root->address >= view_slice_address(model->view, TX_SLICES_MAX)) {
        heap_tell(model->view, OH_ROOT, place, "a name with an end, and an address in the data",
                  "'%.47s', 0x%lx", root->name, root->address);
        return;
    }
    if (!find_block(model, root->address, &block) || !is_used(&block)) {
        heap_tell(model->view, OH_DANGLING, place, "an object that is in use", "'%s': 0x%lx",
                  root->name, root->address);
        return;
    }
    type = block.note ? block.note->type : block.span->type;
    if (type != root->type && block.start == root->address)
        heap_tell(model->view, OH_TYPE, place, "the type of the object", "'%s': %u, object: %u",
                  root->name, root->type, type);
}

void model_check_roots(struct opened_model *model)
{
    for (uint32_t i = 0; i < TX_ROOTS; i++) {
        struct tx_root root;

        memcpy(&root, model->roots + i * sizeof root, sizeof root);
        if (root.name[0] != 0)
            check_root(model, model->view->base + TX_ROOTS_OFFSET + i * sizeof root, &root);
    }
}

/* --- in order --- */

int check_opened_heap(struct heap_view *view, bool has_log)
{
    struct opened_model *model = malloc(sizeof *model);
    bool is_right = false;
    int status = model ? model_open(model, view, &is_right) : -ENOMEM;

    if (status == 0 && is_right && has_log)
        status = check_log_entries(model);
    if (status == 0 && is_right)
        model_check_roots(model);
    if (model != NULL)
        model_close(model);
    free(model);
    return status;
}
