/*
 * tracker.c - see tracker.h.
 */
#include "core/image/tracker.h"

#include <errno.h>
#include <string.h>

#include "core/base/kernel_uffd.h"
#include "core/base/sys.h"

#define MAPPINGS_MAX (1u << 20) /* far above any vm.max_map_count */

bool tracker_saves(const struct mapping *mapping, enum page_backing *backing)
{
    *backing = mapping->kind == MAPPING_ANON   ? BACKING_ZERO
               : mapping->kind == MAPPING_POOL ? BACKING_POOL
                                               : BACKING_FILE;
    return !mapping->shared && (mapping->kind == MAPPING_ANON || mapping->kind == MAPPING_POOL ||
                                mapping->kind == MAPPING_FILE);
}

static int open_uffd(void)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
    };
    int uffd = (int)sys_call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    int status = uffd < 0 ? uffd : (int)sys_call(SYS_ioctl, uffd, UFFDIO_API, &api);

    if (status < 0 && uffd >= 0)
        sys_close(uffd);
    return status < 0 ? status : uffd;
}

static enum tracking choose_way(const struct kernel_features *features, enum tracking wanted)
{
    if (wanted != TRACKING_BEST)
        return wanted;
    if (features->pagemap_scan && features->userfaultfd_wp_async)
        return TRACKING_WRITE_PROTECTION;
    return features->soft_dirty ? TRACKING_SOFT_DIRTY : TRACKING_CHECKSUM;
}

int tracker_open(struct tracker *tracker, struct arena *arena,
                 const struct kernel_features *features, enum tracking wanted)
{
    enum tracking way = choose_way(features, wanted);
    bool by_scan = features->pagemap_scan && wanted != TRACKING_CHECKSUM;
    int status = 0;

    *tracker = (struct tracker){.uffd = -1, .way = way};
    if (way == TRACKING_SOFT_DIRTY && !features->soft_dirty)
        return STATUS_UNSUPPORTED;
    tracker->unregistered_pages = arena_alloc(arena, MAPPINGS_MAX * sizeof(uint32_t), 64);
    if (!tracker->unregistered_pages)
        return -ENOMEM;
    status = pagemap_open(&tracker->pagemap, arena,
                          way == TRACKING_SOFT_DIRTY ? PAGEMAP_BY_SOFT_DIRTY
                          : by_scan                  ? PAGEMAP_BY_SCAN
                                                     : PAGEMAP_CLASSIC);
    if (status < 0 || way != TRACKING_WRITE_PROTECTION)
        return status;
    tracker->uffd = open_uffd();
    tracker->is_quick = features->pagemap_quick;
    if (tracker->uffd >= 0)
        return 0;
    status = tracker->uffd;
    pagemap_close(&tracker->pagemap);
    return status;
}

void tracker_close(struct tracker *tracker)
{
    pagemap_close(&tracker->pagemap);
    if (tracker->uffd >= 0)
        sys_close(tracker->uffd);
    tracker->uffd = -1;
}

/* --- groups --- */

static bool gap_is_excluded(const struct address_space *space, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < space->excluded_count; i++)
        if (space->excluded[i].start < end && space->excluded[i].end > start)
            return true;
    return false;
}

static bool may_join(const struct tracker_group *group, const struct tracker_group *next,
                     const struct address_space *space)
{
    return group->tracked && next->tracked && group->backing == next->backing &&
           group->readable == next->readable && !gap_is_excluded(space, group->end, next->start);
}

/* Groups all mappings, as if every one were tracked, when tracker is NULL. */
static int each_group(const struct tracker *tracker, const struct address_space *space,
                      tracker_visit *visit, void *context)
{
    struct tracker_group group = {0}, next = {0};
    /* PAGEMAP_SCAN passes over the gaps between mappings; the classic file has an entry for each
     * page of them. */
    bool joins = !tracker || tracker->uffd >= 0;
    int status = 0;

    for (uint32_t i = 0; i < space->count && status >= 0; i++) {
        const struct mapping *mapping = &space->mappings[i];
        bool saved = tracker_saves(mapping, &next.backing);

        next.start = mapping->start;
        next.end = mapping->end;
        next.readable = (mapping->prot & PROT_READ) != 0;
        next.tracked = !tracker || tracker->way == TRACKING_SOFT_DIRTY ||
                       (tracker->uffd >= 0 && tracker->unregistered_pages[i] == 0);
        if (joins && saved && group.end && may_join(&group, &next, space)) {
            group.end = next.end;
            continue;
        }
        if (group.end)
            status = visit(context, &group);
        group = saved ? next : (struct tracker_group){0};
    }
    if (group.end && status >= 0)
        status = visit(context, &group);
    return status;
}

int tracker_each_group(const struct tracker *tracker, const struct address_space *space,
                       tracker_visit *visit, void *context)
{
    return each_group(tracker, space, visit, context);
}

int tracker_each_backing(const struct address_space *space, tracker_visit *visit, void *context)
{
    return each_group(NULL, space, visit, context);
}

/* --- registering --- */

struct search {
    struct tracker *tracker;
    const struct address_space *space;
    uint32_t at; /* runs come in ascending order: mappings before this one lie behind */
};

static int note_unregistered(void *context, const struct page_run *run)
{
    struct search *search = context;
    const struct address_space *space = search->space;

    for (; search->at < space->count; search->at++) {
        const struct mapping *mapping = &space->mappings[search->at];
        uint64_t page = mapping->start >> PAGE_SHIFT, end = mapping->end >> PAGE_SHIFT;

        if (page >= run->end)
            break;
        page = page > run->page ? page : run->page;
        if (end > page) {
            uint64_t pages = (end < run->end ? end : run->end) - page;
            uint32_t *count = &search->tracker->unregistered_pages[search->at];

            *count = pages > UINT32_MAX - *count ? UINT32_MAX : *count + (uint32_t)pages;
        }
        if (end > run->end)
            break; /* the next run may lie in it too */
    }
    return 0;
}

static int search_group(void *context, const struct tracker_group *group)
{
    struct search *search = context;

    return pagemap_unregistered(&search->tracker->pagemap, group->start, group->end, group->backing,
                                note_unregistered, search);
}

static bool is_worth_registering(const struct mapping *mapping, uint32_t pages)
{
    return mapping->kind != MAPPING_FILE || (mapping->prot & PROT_WRITE) ||
           pages >= ((mapping->end - mapping->start) >> PAGE_SHIFT) / 4;
}

static bool unregister(const struct tracker *tracker, uintptr_t start, uintptr_t end)
{
    struct uffdio_range range = {start, end - start};

    return sys_call(SYS_ioctl, tracker->uffd, UFFDIO_UNREGISTER, &range) == 0;
}

/* All pages of the range count as written from now on. */
static bool unprotect(const struct tracker *tracker, uintptr_t start, uintptr_t end)
{
    struct uffdio_writeprotect range = {.range = {start, end - start}, .mode = 0};

    return sys_call(SYS_ioctl, tracker->uffd, UFFDIO_WRITEPROTECT, &range) == 0;
}

/*
 * Registers a mapping and takes the protection off its pages. It may have some: when mremap moves
 * pages next to a registered mapping, the kernel merges the two and drops the registration of both,
 * but the neighbour's pages keep their protection marks. A store to such a page takes the write
 * fault and leaves the mark; registered again as it is, the page would look protected and be
 * writable, and no store to it would ever be seen.
 */
static bool register_anew(struct tracker *tracker, uintptr_t start, uintptr_t end)
{
    struct uffdio_register range = {
        .range = {start, end - start},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };

    if (sys_call(SYS_ioctl, tracker->uffd, UFFDIO_REGISTER, &range) < 0)
        return false;
    if (unprotect(tracker, start, end))
        return true;
    /* The program has changed its mappings meanwhile: left to the next round. */
    if (!unregister(tracker, start, end))
        tracker->distrusts_marks = true;
    return false;
}

/* Marks may be left in registered mappings: all are taken away, every page counts as written. */
static void unprotect_all(struct tracker *tracker, const struct address_space *space)
{
    enum page_backing backing;

    for (uint32_t i = 0; i < space->count; i++)
        if (tracker_saves(&space->mappings[i], &backing))
            (void)unprotect(tracker, space->mappings[i].start, space->mappings[i].end);
    tracker->distrusts_marks = false;
}

int tracker_prepare(struct tracker *tracker, const struct address_space *space)
{
    struct search search = {tracker, space, 0};
    int status = pagemap_refresh(&tracker->pagemap);

    if (status < 0 || tracker->uffd < 0)
        return status;
    if (space->count > MAPPINGS_MAX)
        return STATUS_LIMIT;
    if (tracker->distrusts_marks)
        unprotect_all(tracker, space);
    tracker->untracked_pages = 0;
    memset(tracker->unregistered_pages, 0, space->count * sizeof(uint32_t));
    status = each_group(NULL, space, search_group, &search);
    if (status < 0)
        return status;
    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];
        uint32_t *pages = &tracker->unregistered_pages[i];

        /* Refused (another userfaultfd has it, or it is gone): untracked, so looked at whole. */
        if (*pages && is_worth_registering(mapping, *pages) &&
            register_anew(tracker, mapping->start, mapping->end))
            *pages = 0;
        tracker->untracked_pages += *pages;
    }
    return 0;
}

bool tracker_unprotect(struct tracker *tracker, uintptr_t start, uintptr_t end)
{
    return tracker->uffd >= 0 && unprotect(tracker, start, end);
}

void tracker_unregister(struct tracker *tracker, uintptr_t start, uintptr_t end)
{
    if (tracker->uffd >= 0)
        (void)unregister(tracker, start, end);
}

int tracker_cut_done(struct tracker *tracker)
{
    return tracker->way == TRACKING_SOFT_DIRTY ? pagemap_clear_soft_dirty(&tracker->pagemap) : 0;
}
