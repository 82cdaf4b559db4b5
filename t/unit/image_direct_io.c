/*
 * image_direct_io.c - pre-copy beside a thread that reads a file past the page cache into its
 * memory: the device writes to pinned pages, which the kernel does not report as written.
 */
#include "t/lib/image_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#define PAGES       64u
#define BYTES       (PAGES * 4096u)
#define GENERATIONS 30

static struct fixture f;
static uint8_t *memory;
static int file = -1;
static int ending;
static uint64_t failed_reads;

/* Two contents in turn, so that each read changes every page. */
static void *program(void *unused)
{
    for (unsigned i = 0; !__atomic_load_n(&ending, __ATOMIC_SEQ_CST); i++)
        failed_reads += pread(file, memory, BYTES, (off_t)(i % 2) * BYTES) != BYTES;
    return unused;
}

/* The file, open for direct I/O; -1 where the file system cannot do that. */
static int make_file(const char *directory)
{
    char path[320];
    int fd = -1;

    snprintf(path, sizeof path, "%s/data", directory);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    for (int i = 0; i < 2; i++) {
        memset(memory, i + 1, BYTES);
        CHECK_EQ(pwrite(fd, memory, BYTES, (off_t)i * BYTES), BYTES);
    }
    CHECK_EQ(fsync(fd), 0);
    close(fd);
    fd = open(path, O_RDONLY | O_DIRECT);
    unlink(path);
    return fd;
}

static bool checkpoint_beside_reads(void)
{
    pthread_t thread;
    uint8_t *model = NULL;

    __atomic_store_n(&ending, 0, __ATOMIC_SEQ_CST);
    if (!CHECK_EQ(pthread_create(&thread, NULL, program, NULL), 0))
        return false;
    for (int round = 0; round < 4; round++)
        CHECK_OK(fixture_precopy(&f));
    __atomic_store_n(&ending, 1, __ATOMIC_SEQ_CST);
    CHECK_OK(fixture_precopy(&f)); /* the last read is under way */
    pthread_join(thread, NULL);
    image_writer_distrust_precopy(f.writer);

    CHECK_OK(fixture_cut(&f));
    model = fixture_model(&f, BYTES);
    memcpy(model, memory, BYTES);
    CHECK_OK(fixture_commit(&f));
    return CHECK(fixture_shows(&f, memory, model, BYTES));
}

static void what_a_device_writes_while_pages_are_copied_is_in_the_image(void)
{
    memory = fixture_map(PAGES);
    if (fixture_start(&f, false, 0)) {
        file = make_file(f.dir);
        if (file < 0)
            tap_skip("no direct I/O on the file system of %s", f.dir);
        for (int i = 0; file >= 0 && i < GENERATIONS; i++)
            if (!checkpoint_beside_reads())
                break;
        CHECK_EQ(failed_reads, 0);
    }
    if (file >= 0)
        close(file);
    fixture_stop(&f);
    munmap(memory, BYTES);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(what_a_device_writes_while_pages_are_copied_is_in_the_image);
    return tap_done();
}
