/*
 * pool_persist.c - the ordinary-file back end: bytes arrive, space is reserved, what fails stays
 * failed or leaves the file as it was.
 */
#include "core/pool/persist.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "t/lib/persist_recorder.h"
#include "t/lib/tap.h"

static struct persist persist;
static int file;

static void begin(uint64_t file_bytes)
{
    CHECK_EQ(ftruncate(file, 0), 0);
    persist_open_file(&persist, file, 0);
    CHECK_OK(persist_grow(&persist, file_bytes));
}

static uint64_t length_of_file(void)
{
    struct stat info;

    CHECK_EQ(fstat(file, &info), 0);
    return (uint64_t)info.st_size;
}

static void written_bytes_arrive_and_are_counted(void)
{
    char found[6] = "";

    begin(10000);
    CHECK_OK(persist_write(&persist, 5000, "hello", 5));
    CHECK_OK(persist_write(&persist, 9995, "world", 5));
    CHECK_OK(persist_sync(&persist));
    CHECK_EQ(pread(file, found, 5, 5000), 5);
    CHECK_STR(found, "hello");
    CHECK_EQ(persist.bytes_written, 10);
    CHECK_EQ(persist.syncs, 1);
}

static void growing_reserves_space_and_never_shrinks(void)
{
    struct stat info;

    begin(1 << 20);
    CHECK_EQ(length_of_file(), 1 << 20);
    CHECK_EQ(fstat(file, &info), 0);
    CHECK(info.st_blocks * 512 >= 1 << 20);
    CHECK_OK(persist_grow(&persist, 4096));
    CHECK_EQ(length_of_file(), 1 << 20);
    CHECK_EQ(persist.file_bytes, 1 << 20);
}

static void a_write_without_reserved_space_is_refused(void)
{
    begin(8192);
    CHECK_EQ(persist_write(&persist, 8192, "x", 1), -EINVAL);
    CHECK_EQ(persist_write(&persist, 8190, "xyz", 3), -EINVAL);
    CHECK_EQ(persist_write(&persist, UINT64_MAX, "x", 1), -EINVAL);
    CHECK_EQ(length_of_file(), 8192);
    CHECK_EQ(persist.bytes_written, 0);
}

static void a_growth_that_fails_leaves_the_file_as_it_was(void)
{
    struct rlimit old_limit, limit;

    begin(8192);
    getrlimit(RLIMIT_FSIZE, &old_limit);
    limit = (struct rlimit){100000, old_limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    CHECK_EQ(persist_grow(&persist, 1 << 20), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old_limit);
    CHECK_EQ(length_of_file(), 8192);
    CHECK_EQ(persist.file_bytes, 8192);
    CHECK_EQ(persist.failed, 0);
    CHECK_OK(persist_grow(&persist, 1 << 20));
}

static void after_a_failed_sync_nothing_is_written_any_more(void)
{
    struct recording recording = {.fail_at = 2, .fail_status = -EIO};

    begin(8192);
    recording_attach(&recording, &persist);
    CHECK_OK(persist_write(&persist, 0, "a", 1));
    CHECK_EQ(persist_sync(&persist), -EIO);
    CHECK_EQ(persist_sync(&persist), -EIO);
    CHECK_EQ(persist_write(&persist, 0, "b", 1), -EIO);
    CHECK_EQ(persist_grow(&persist, 1 << 20), -EIO);
    CHECK_EQ(recording.operations, 2);
    recording_free(&recording);
}

static void a_failed_write_may_be_tried_again(void)
{
    struct recording recording = {.fail_at = 1, .fail_status = -ENOSPC};

    begin(8192);
    recording_attach(&recording, &persist);
    CHECK_EQ(persist_write(&persist, 0, "a", 1), -ENOSPC);
    CHECK_OK(persist_write(&persist, 0, "a", 1));
    CHECK_OK(persist_sync(&persist));
    recording_free(&recording);
}

/* Written to it would grow again, and its frames be zeroes with a checksum that was true. */
static void a_file_that_was_cut_short_is_not_written_to(void)
{
    begin(1 << 20);
    CHECK_OK(persist_write(&persist, 0, "a", 1));
    CHECK_EQ(ftruncate(persist.fd, 8192), 0);
    CHECK_EQ(persist_write(&persist, 65536, "b", 1), -ESTALE);
    CHECK_EQ(length_of_file(), 8192);
    CHECK_EQ(persist_sync(&persist), -ESTALE);
    CHECK_EQ(ftruncate(persist.fd, 1 << 20), 0);
    CHECK_EQ(persist_write(&persist, 0, "c", 1), -ESTALE); /* what was cut off is gone */
}

/* A full device that is really there: /dev/full fails every write with ENOSPC. */
static void errors_of_the_kernel_are_passed_on(void)
{
    int full = sys_open("/dev/full", O_WRONLY | O_CLOEXEC, 0);

    CHECK_OK(full);
    persist_open_file(&persist, full, 4096);
    CHECK_EQ(persist_write(&persist, 0, "x", 1), -ENOSPC);
    CHECK_EQ(persist_sync(&persist), -EINVAL); /* a device has nothing to sync */
    CHECK_EQ(persist.failed, -EINVAL);
    sys_close(full);
}

int main(int argc, char **argv)
{
    char path[128];

    snprintf(path, sizeof path, "%.80s/pheap-persist-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    signal(SIGXFSZ, SIG_IGN);
    file = mkstemp(path);
    if (file < 0 || unlink(path) < 0)
        return 1;
    tap_arguments(argc, argv);
    RUN(written_bytes_arrive_and_are_counted);
    RUN(growing_reserves_space_and_never_shrinks);
    RUN(a_write_without_reserved_space_is_refused);
    RUN(a_growth_that_fails_leaves_the_file_as_it_was);
    RUN(after_a_failed_sync_nothing_is_written_any_more);
    RUN(a_failed_write_may_be_tried_again);
    RUN(a_file_that_was_cut_short_is_not_written_to);
    RUN(errors_of_the_kernel_are_passed_on);
    return tap_done();
}
