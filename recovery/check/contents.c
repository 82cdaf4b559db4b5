/*
 * contents.c - every page that a generation shows is read and compared with its checksum, by as
 * many threads as there are processors.
 *
 * The frames are gone through in the order of the file, neighbours in one read. Not chosen: a
 * mapping of the file; a file that is cut short meanwhile, or a bad sector, would kill the checker.
 */
#include <errno.h>
#include <stdlib.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "recovery/check/checking.h"

#define TAKE_FRAMES    1024u /* of one turn of a thread; divides CHUNK_FRAMES */
#define READ_FRAMES    256u
#define THREADS_MAX    16u
#define FRAMES_THREAD  4096u /* fewer are not worth a thread */
#define PROGRESS_TURNS 16u

struct reading {
    struct checking *checking;
    uint64_t next; /* frame that nobody has taken yet */
    uint64_t done_bytes, total_bytes;
    int failed;
};

static void tell_page(struct checking *checking, uint64_t frame, const struct frame_use *use,
                      int status, uint64_t found)
{
    uint32_t newest = 31 - (uint32_t)__builtin_clz(use->generations);
    struct place place = place_of(check_entry(checking, newest)->number, frame << FRAME_SHIFT,
                                  use->position << FRAME_SHIFT);

    frame_is_bad(checking, frame);
    if (status < 0)
        check_tell(checking, PG_CHECKSUM, SEVERITY_DAMAGE, place, "a readable page", "%s",
                   status_text(status));
    else
        check_tell(checking, PG_CHECKSUM, SEVERITY_DAMAGE, place,
                   "the checksum that the index has for it", "checksum %016lx", found);
}

static void check_pages(struct checking *checking, uint8_t *buffer, uint64_t first, uint64_t count)
{
    int status = check_read(checking, buffer, count << FRAME_SHIFT, first << FRAME_SHIFT);

    for (uint64_t i = 0; i < count; i++) {
        const struct frame_use *use = frame_use_of(checking, first + i);
        uint8_t *page = buffer + (i << FRAME_SHIFT);
        uint64_t found;
        int one = status;

        if (one < 0) /* which of them is it? */
            one = check_read(checking, page, FRAME_BYTES, (first + i) << FRAME_SHIFT);
        found = one == 0 ? checksum64(page, FRAME_BYTES) : 0;
        if (one < 0 || found != use->checksum)
            tell_page(checking, first + i, use, one, found);
    }
}

static bool is_page(const struct checking *checking, uint64_t frame)
{
    const struct frame_use *use = frame_use_of(checking, frame);

    return use != NULL && use->role == ROLE_PAGE;
}

/* Returns how many pages there were in [first, end). */
static uint64_t check_range(struct checking *checking, uint8_t *buffer, uint64_t first,
                            uint64_t end)
{
    uint64_t pages = 0;

    while (first < end) {
        uint64_t run = 0;

        while (first + run < end && run < READ_FRAMES && is_page(checking, first + run))
            run++;
        if (run > 0)
            check_pages(checking, buffer, first, run);
        pages += run;
        first += run > 0 ? run : 1;
    }
    return pages;
}

static void tell_progress(struct reading *reading)
{
    const struct check_request *request = reading->checking->request;

    if (request->progress != NULL)
        request->progress(request->context, __atomic_load_n(&reading->done_bytes, __ATOMIC_RELAXED),
                          reading->total_bytes);
}

static void read_some(struct reading *reading, bool tells)
{
    struct checking *checking = reading->checking;
    uint8_t *buffer = malloc(READ_FRAMES * FRAME_BYTES);

    if (buffer == NULL)
        __atomic_store_n(&reading->failed, 1, __ATOMIC_RELAXED);
    for (unsigned turn = 0; buffer != NULL; turn++) {
        uint64_t first = __atomic_fetch_add(&reading->next, TAKE_FRAMES, __ATOMIC_RELAXED);
        uint64_t end = first + TAKE_FRAMES, pages;

        if (first >= checking->frame_count)
            break;
        if (checking->chunks == NULL || checking->chunks[first / CHUNK_FRAMES] == NULL)
            continue;
        pages = check_range(checking, buffer, first,
                            end < checking->frame_count ? end : checking->frame_count);
        __atomic_fetch_add(&reading->done_bytes, pages << FRAME_SHIFT, __ATOMIC_RELAXED);
        if (tells && turn % PROGRESS_TURNS == 0)
            tell_progress(reading);
    }
    free(buffer);
}

static void *read_beside(void *argument)
{
    read_some(argument, false);
    return NULL;
}

int check_contents(struct checking *checking)
{
    struct reading reading = {.checking = checking,
                              .total_bytes = checking->frames_used << FRAME_SHIFT};
    unsigned wanted = sys_worker_count(checking->frames_used, FRAMES_THREAD, THREADS_MAX),
             started = 0;
    pthread_t threads[THREADS_MAX];

    while (started + 1 < wanted &&
           pthread_create(&threads[started], NULL, read_beside, &reading) == 0)
        started++;
    read_some(&reading, true);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    checking->result->checked_bytes += reading.done_bytes;
    if (reading.failed)
        return problem_set(checking->why, -ENOMEM, "no memory to check '%s'",
                           checking->request->path);
    return 0;
}
