/*
 * image_cut_check.c - the check of a cut finds a page that the cut has missed, and names it. The
 * test is agent and program at once: what it stores after the cut, on its stack above all, is what
 * threads that wait in a handler store.
 */
#include "core/image/writer_state.h"
#include "t/lib/image_fixture.h"

#define PAGES 64u

static struct fixture f;
static uint8_t *memory;

static bool begin(void)
{
    memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, PAGES * 4096);
    return fixture_start(&f, TRACKING_BEST, 0) && CHECK_EQ(fixture_precopy(&f), 0) &&
           CHECK_EQ(fixture_cut(&f), 0);
}

static void end(void)
{
    image_writer_abandon(f.writer);
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

static int check_cut(bool threads_run)
{
    uintptr_t mark = arena_mark(&f.reading);
    int status = maps_read(&f.space, "/proc/self/maps", &f.reading);

    if (status >= 0)
        status = image_writer_check_cut(f.writer, &f.space, threads_run, &f.why);
    arena_rewind(&f.reading, mark);
    return status;
}

static int pass_over(void *context, const struct page_run *run)
{
    (void)context;
    (void)run;
    return 0;
}

static void forget_marks(void)
{
    CHECK_EQ(pagemap_written(&f.writer->tracker.pagemap, (uintptr_t)memory,
                             (uintptr_t)memory + PAGES * 4096, BACKING_ZERO, false, pass_over,
                             NULL),
             0);
}

static void what_is_stored_after_the_cut_is_no_miss_where_threads_run(void)
{
    if (begin()) {
        memory[7 * 4096] = 2;
        CHECK_EQ(check_cut(true), 0);
        CHECK_EQ(check_cut(false), STATUS_DAMAGED);
    }
    end();
}

static void a_page_that_differs_and_bears_no_mark_is_a_miss(void)
{
    char address[32];

    if (begin()) {
        memory[7 * 4096] = 2;
        forget_marks();
        CHECK_EQ(check_cut(true), STATUS_DAMAGED);
        snprintf(address, sizeof address, "%lx", (unsigned long)(uintptr_t)memory + 7 * 4096);
        CHECK(strstr(f.why.text, "missed 1 pages") && strstr(f.why.text, address));
    }
    end();
}

int main(int argc, char **argv)
{
    struct kernel_features features;

    tap_arguments(argc, argv);
    kernel_features_probe(&features);
    if (!features.userfaultfd_wp_async || !features.pagemap_scan) {
        tap_skip("a kernel without write protection of pages");
        return tap_done();
    }
    RUN(what_is_stored_after_the_cut_is_no_miss_where_threads_run);
    RUN(a_page_that_differs_and_bears_no_mark_is_a_miss);
    return tap_done();
}
