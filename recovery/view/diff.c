/*
 * diff.c - see diff.h. True always: lists of both generations ascend, so one pass over both will
 * do.
 */
#include "recovery/view/diff.h"

#include <string.h>

/* --- pages --- */

struct page_diff {
    struct view *other;
    bool is_old; /* the one gone through is the older one: it tells of pages that both have */
    uint64_t first, end;
    diff_page *visit;
    void *context;
};

static bool is_same(struct index_entry a, struct index_entry b)
{
    return a.frame < FRAME_FIRST || b.frame < FRAME_FIRST ? a.frame == b.frame
                                                          : a.checksum == b.checksum;
}

static int diff_leaf(void *context, uint64_t first_page,
                     const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    const struct page_diff *diff = context;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++) {
        uint64_t page = first_page + i;
        struct index_entry other;
        int status;

        if (entries[i].frame == FRAME_NONE || page < diff->first || page >= diff->end)
            continue;
        status = index_lookup(diff->other->image.index, page, &other);
        if (status < 0)
            return status;
        if (other.frame == FRAME_NONE)
            diff->visit(diff->context, page, diff->is_old ? PAGE_WENT : PAGE_CAME);
        else if (diff->is_old)
            diff->visit(diff->context, page, is_same(entries[i], other) ? PAGE_SAME : PAGE_CHANGED);
    }
    return 0;
}

int diff_each_page(struct view *old, struct view *new, uint64_t first, uint64_t end,
                   diff_page *visit, void *context, struct problem *why)
{
    struct page_diff diff = {new, true, first, end, visit, context};
    int status = index_each_leaf(old->image.index, first, end, diff_leaf, &diff);

    diff.other = old;
    diff.is_old = false;
    if (status == 0)
        status = index_each_leaf(new->image.index, first, end, diff_leaf, &diff);
    if (status < 0)
        return problem_set(why, status,
                           "%s: the indexes of generations %lu and %lu cannot be read: %s",
                           new->pool.path, (unsigned long)old->generation.number,
                           (unsigned long)new->generation.number, status_text(status));
    return 0;
}

struct page_count {
    uint64_t slot_first;
    struct page_changes *heap, *outside;
};

static void count_page(void *context, uint64_t page, enum page_change change)
{
    struct page_count *count = context;
    struct page_changes *changes =
        page - count->slot_first < SLOT_BYTES >> PAGE_SHIFT ? count->heap : count->outside;

    switch (change) {
    case PAGE_SAME:
        changes->same++;
        break;
    case PAGE_CHANGED:
        changes->changed++;
        break;
    case PAGE_CAME:
        changes->came++;
        break;
    case PAGE_WENT:
        changes->went++;
        break;
    }
}

int diff_pages(struct view *old, struct view *new, struct page_changes *heap,
               struct page_changes *other, struct problem *why)
{
    struct page_count count = {view_slot_base(new) >> PAGE_SHIFT, heap, other};

    memset(heap, 0, sizeof *heap);
    memset(other, 0, sizeof *other);
    return diff_each_page(old, new, 0, INDEX_PAGE_LIMIT, count_page, &count, why);
}

/* --- mappings --- */

static void diff_same_start(const struct view *old, const struct view *new,
                            const struct image_mapping *was, const struct image_mapping *is,
                            diff_mapping *visit, void *context)
{
    if (strcmp(view_mapping_name(old, was), view_mapping_name(new, is)) != 0) {
        visit(context, DIFF_WENT, was, NULL);
        visit(context, DIFF_CAME, NULL, is);
    } else if (was->record->end != is->record->end || was->record->prot != is->record->prot) {
        visit(context, DIFF_CHANGED, was, is);
    }
}

void diff_mappings(const struct view *old, const struct view *new, diff_mapping *visit,
                   void *context)
{
    const struct image_mapping *was = old->process.mappings, *is = new->process.mappings;
    const struct image_mapping *was_end = was + old->process.mapping_count;
    const struct image_mapping *is_end = is + new->process.mapping_count;

    while (was < was_end || is < is_end) {
        if (is == is_end || (was < was_end && was->record->start < is->record->start))
            visit(context, DIFF_WENT, was++, NULL);
        else if (was == was_end || is->record->start < was->record->start)
            visit(context, DIFF_CAME, NULL, is++);
        else
            diff_same_start(old, new, was++, is++, visit, context);
    }
}

/* --- descriptors --- */

static const struct image_description *description_of(const struct process_image *process,
                                                      const struct record_descriptor *descriptor)
{
    return &process->descriptions[descriptor->description];
}

void diff_descriptors(const struct view *old, const struct view *new, diff_descriptor *visit,
                      void *context)
{
    const struct process_image *before = &old->process, *after = &new->process;
    uint32_t i = 0, j = 0;

    while (i < before->descriptor_count || j < after->descriptor_count) {
        uint32_t was = i < before->descriptor_count ? before->descriptors[i]->number : UINT32_MAX;
        uint32_t is = j < after->descriptor_count ? after->descriptors[j]->number : UINT32_MAX;
        const struct image_description *a =
            was <= is ? description_of(before, before->descriptors[i++]) : NULL;
        const struct image_description *b =
            is <= was ? description_of(after, after->descriptors[j++]) : NULL;

        if (a && b && a->record->kind == b->record->kind && strcmp(a->path, b->path) == 0)
            continue;
        if (a)
            visit(context, DIFF_WENT, a, was);
        if (b)
            visit(context, DIFF_CAME, b, is);
    }
}
