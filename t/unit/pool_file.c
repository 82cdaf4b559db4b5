/*
 * pool_file.c - a pool file is made, opened, locked, refused: each kind of file that is no good
 * gives its own status and a message that names the path.
 */
#include "core/pool/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/slot_choice.h"
#include "core/pool/superblock.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

static struct pool pool;
static struct problem why;

/* A file of these bytes instead of the pool. */
static const char *file_of(const void *bytes, size_t length)
{
    const char *path = scratch_path("file");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    CHECK(write(fd, bytes, length) == (ssize_t)length);
    close(fd);
    return path;
}

static void check_refused(const char *path, enum pool_mode mode, int status, const char *text)
{
    why = (struct problem){0};
    CHECK_EQ(pool_open(&pool, path, mode, &why), status);
    CHECK_EQ(why.status, status);
    CHECK(strstr(why.text, path) != NULL);
    if (strstr(why.text, text) == NULL)
        CHECK_STR(why.text, text);
    CHECK_EQ(pool.fd, -1);
}

static const char *new_pool(void)
{
    const char *path = scratch_path("pool");

    unlink(path);
    CHECK_OK(pool_create(path, 0, 3, &why));
    return path;
}

static void a_new_pool_has_no_generations_and_is_private(void)
{
    mode_t old_mask = umask(0);
    const char *path = new_pool();
    struct stat info;

    umask(old_mask);
    CHECK_EQ(stat(path, &info), 0);
    CHECK_EQ(info.st_mode & 07777, 0600);
    CHECK_OK(pool_open(&pool, path, POOL_READ, &why));
    CHECK_EQ(pool.super.generation_count, 0);
    CHECK_EQ(pool.super.next_generation, 1);
    CHECK_EQ(pool.super.keep, 3);
    CHECK(pool_slot_is_valid(pool.super.slot) && pool.super.slot < SLOT_OPENED_FIRST);
    CHECK(!pool.super_fell_back);
    CHECK(pool_is_valid(&pool));
    CHECK(pool_generation(&pool, 0) == NULL);
    CHECK_EQ(pool.super.frame_count, (uint64_t)info.st_size / FRAME_BYTES);
    pool_close(&pool);
}

static void two_pools_have_different_uuids_and_slots_as_asked(void)
{
    uint8_t uuid[16];
    uint32_t slots = 0;

    for (int i = 0; i < 20; i++) {
        CHECK_OK(pool_open(&pool, new_pool(), POOL_READ, &why));
        CHECK(i == 0 || memcmp(uuid, pool.super.uuid, sizeof uuid) != 0);
        memcpy(uuid, pool.super.uuid, sizeof uuid);
        slots |= 1u << pool.super.slot % 32;
        pool_close(&pool);
    }
    CHECK((slots & (slots - 1)) != 0); /* not all the same */
    unlink(scratch_path("pool"));
    CHECK_OK(pool_create(scratch_path("pool"), 50, 16, &why));
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    CHECK_EQ(pool.super.slot, 50);
    pool_close(&pool);
}

static void making_a_pool_refuses_what_is_wrong_and_leaves_no_file(void)
{
    const char *path = new_pool();

    CHECK_EQ(pool_create(path, 0, 3, &why), -EEXIST);
    CHECK(strstr(why.text, path) && strstr(why.text, "exists"));
    path = scratch_path("other");
    CHECK_EQ(pool_create(path, 10, 3, &why), STATUS_USAGE);
    CHECK_EQ(pool_create(path, 51, 3, &why), STATUS_USAGE);
    CHECK_EQ(pool_create(path, 0, 0, &why), STATUS_USAGE);
    CHECK_EQ(pool_create(path, 0, 17, &why), STATUS_USAGE);
    CHECK_EQ(access(path, F_OK), -1);
    CHECK_EQ(pool_create(scratch_path("no/pool"), 0, 3, &why), -ENOENT);
    CHECK(strstr(why.text, "directory does not exist"));
    CHECK_EQ(symlink("target", path), 0);
    CHECK_EQ(pool_create(path, 0, 3, &why), -EEXIST);
    unlink(path);
}

/* In a child: the limit is 4 KiB, so the superblocks do not fit. */
static void a_pool_that_cannot_be_filled_is_removed_again(void)
{
    const char *path = scratch_path("full");
    int result, child = fork();

    if (child == 0) {
        struct rlimit limit = {4096, 4096};

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(pool_create(path, 0, 3, &why) == -EFBIG && access(path, F_OK) < 0 ? 0 : 1);
    }
    CHECK(waitpid(child, &result, 0) == child && result == 0);
}

/* Looks at the path all the time; 0 if what was there was always a pool. */
static int watch_for_half_pools(const char *path)
{
    for (;;) {
        struct problem seen = {0};
        int status = pool_open(&pool, path, POOL_READ, &seen);

        if (status == 0)
            pool_close(&pool);
        else if (status != -ENOENT)
            return 1;
    }
}

static void nobody_ever_sees_half_a_new_pool(void)
{
    const char *path = scratch_path("watched");
    int result, child = fork();

    if (child == 0)
        _exit(watch_for_half_pools(path));
    for (int i = 0; i < 20000; i++) {
        CHECK_OK(pool_create(path, 0, 3, &why));
        unlink(path);
    }
    CHECK_EQ(waitpid(child, &result, WNOHANG), 0);
    kill(child, SIGKILL);
    waitpid(child, &result, 0);
}

static void a_read_only_directory_is_named_as_the_reason(void)
{
    const char *path = scratch_path("locked");
    int result, child;

    CHECK_EQ(mkdir(path, 0500), 0);
    child = fork();
    if (child == 0) { /* root may write everywhere: as nobody */
        char inside[200];

        snprintf(inside, sizeof inside, "%s/pool", path);
        if (geteuid() == 0 && (chown(path, 65534, 65534) != 0 || setuid(65534) != 0))
            _exit(2);
        if (pool_create(inside, 0, 3, &why) != -EACCES)
            _exit(1);
        _exit(strstr(why.text, "the directory must be writable") ? 0 : 1);
    }
    CHECK(waitpid(child, &result, 0) == child);
    CHECK_EQ(result, 0);
    rmdir(path);
}

static void a_missing_file_says_so(void)
{
    check_refused(scratch_path("missing"), POOL_READ, -ENOENT, "no pool");
    check_refused(scratch_path("missing"), POOL_WRITE, -ENOENT, "no pool");
}

static void an_empty_file_is_no_pool(void)
{
    check_refused(file_of("", 0), POOL_READ, STATUS_NOT_A_POOL, "the file is empty");
}

static void a_foreign_file_is_no_pool(void)
{
    static char text[10000];

    memset(text, 'x', sizeof text);
    check_refused(file_of(text, sizeof text), POOL_READ, STATUS_NOT_A_POOL, "is not a pool");
    check_refused(file_of(text, sizeof text), POOL_WRITE, STATUS_NOT_A_POOL, "is not a pool");
    check_refused(file_of("PHEA", 4), POOL_READ, STATUS_NOT_A_POOL, "is not a pool");
}

static void a_superblock_that_is_cut_off_is_damage(void)
{
    check_refused(file_of("PHEAPOOL....", 12), POOL_READ, STATUS_DAMAGED, "neither superblock");
}

static void directories_devices_and_pipes_are_no_pools(void)
{
    const char *pipe_path = scratch_path("pipe");

    check_refused("/tmp", POOL_READ, STATUS_NOT_A_POOL, "no regular file");
    check_refused("/tmp", POOL_WRITE, STATUS_NOT_A_POOL, "is a directory");
    check_refused("/dev/null", POOL_READ, STATUS_NOT_A_POOL, "no regular file");
    CHECK_EQ(mkfifo(pipe_path, 0600), 0);
    check_refused(pipe_path, POOL_READ, STATUS_NOT_A_POOL, "no regular file");
    check_refused(pipe_path, POOL_WRITE, STATUS_NOT_A_POOL, "no regular file");
    unlink(pipe_path);
}

static void a_symbolic_link_is_not_followed_for_writing(void)
{
    const char *path = new_pool(), *link_path = scratch_path("link");

    CHECK_EQ(symlink(path, link_path), 0);
    check_refused(link_path, POOL_WRITE, -ELOOP, "symbolic link");
    CHECK_OK(pool_open(&pool, link_path, POOL_READ, &why));
    pool_close(&pool);
    unlink(link_path);
}

static void another_users_pool_is_refused(void)
{
    const char *path = new_pool();
    int result, child = fork();

    if (geteuid() != 0) {
        if (child == 0)
            _exit(0);
        waitpid(child, &result, 0);
        tap_skip("needs root to make another user's file");
        return;
    }
    if (child == 0) { /* its directory is root's: reached through a descriptor */
        int fd = open(path, O_RDONLY);
        char by_fd[64];
        int status;

        snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", fd);
        if (setuid(65534) != 0)
            _exit(2);
        status = pool_open(&pool, by_fd, POOL_READ, &why);
        _exit(status == STATUS_NOT_OWNER || status == -EACCES ? 0 : 1);
    }
    CHECK(waitpid(child, &result, 0) == child);
    CHECK_EQ(result, 0);
    CHECK_EQ(chown(path, 65534, 65534), 0);
    check_refused(path, POOL_WRITE, STATUS_NOT_OWNER, "belongs to user 65534");
    CHECK_OK(pool_open(&pool, path, POOL_READ, &why)); /* root may look */
    pool_close(&pool);
}

static void one_writer_and_any_readers(void)
{
    static struct pool writer, reader;
    const char *path = new_pool();
    int result, child;

    CHECK_OK(pool_open(&writer, path, POOL_WRITE, &why));
    check_refused(path, POOL_WRITE, STATUS_IN_USE, "in use");
    CHECK_OK(pool_open(&reader, path, POOL_READ, &why));
    child = fork();
    if (child == 0)
        _exit(pool_open(&pool, path, POOL_WRITE, &why) == STATUS_IN_USE ? 0 : 1);
    CHECK(waitpid(child, &result, 0) == child && result == 0);
    pool_close(&reader);
    pool_close(&writer);
    CHECK_OK(pool_open(&writer, path, POOL_WRITE, &why));
    pool_close(&writer);
}

static void a_relative_path_is_remembered_as_an_absolute_one(void)
{
    char here[200], expected[300];
    const char *path = new_pool();
    int old_directory = open(".", O_RDONLY | O_DIRECTORY);

    snprintf(here, sizeof here, "%.*s", (int)(strrchr(path, '/') - path), path);
    CHECK_EQ(chdir(here), 0);
    CHECK_OK(pool_open(&pool, "pool", POOL_READ, &why));
    snprintf(expected, sizeof expected, "%s/pool", here);
    CHECK_STR(pool.path, expected);
    pool_close(&pool);
    CHECK_EQ(fchdir(old_directory), 0);
    close(old_directory);
}

static void change_superblocks(const char *path, void (*change)(struct superblock *super))
{
    struct superblock super;
    int fd = open(path, O_RDWR);

    for (int i = 0; i < 2; i++) {
        CHECK(pread(fd, &super, sizeof super, i * FRAME_BYTES) == sizeof super);
        change(&super);
        CHECK(pwrite(fd, &super, sizeof super, i * FRAME_BYTES) == sizeof super);
    }
    close(fd);
}

static void reseal(struct superblock *super)
{
    super->checksum = checksum64(super, __builtin_offsetof(struct superblock, checksum));
}

static void make_newer(struct superblock *super)
{
    super->format_version = POOL_FORMAT_VERSION + 1;
    reseal(super);
}

static void make_newer_unsealed(struct superblock *super)
{
    super->format_version = POOL_FORMAT_VERSION + 1;
}

static void a_newer_format_is_told_from_damage(void)
{
    const char *path = new_pool();

    change_superblocks(path, make_newer);
    check_refused(path, POOL_READ, STATUS_NEWER_FORMAT, "format version 5");
    path = new_pool();
    change_superblocks(path, make_newer_unsealed);
    check_refused(path, POOL_READ, STATUS_DAMAGED, "neither superblock");
}

static void lie_count(struct superblock *super)
{
    super->generation_count = 25;
    reseal(super);
}

static void lie_slot(struct superblock *super)
{
    super->slot = 11;
    reseal(super);
}

static void lie_keep(struct superblock *super)
{
    super->keep = 0;
    reseal(super);
}

static void lie_frames(struct superblock *super)
{
    super->frame_count = UINT64_MAX;
    reseal(super);
}

static void lie_next(struct superblock *super)
{
    super->next_generation = 0;
    reseal(super);
}

static struct generation_entry *lie_entry(struct superblock *super)
{
    super->next_generation = 3;
    super->generation_count = 1;
    super->generations[0] = (struct generation_entry){.number = 1, .kind = GENERATION_HEAP};
    return &super->generations[0];
}

static void lie_root(struct superblock *super)
{
    lie_entry(super)->index_root.frame = super->frame_count;
    reseal(super);
}

static void lie_record(struct superblock *super)
{
    lie_entry(super)->record_frame = 2;
    super->generations[0].record_bytes = UINT64_MAX - 100;
    reseal(super);
}

static void lie_order(struct superblock *super)
{
    super->generations[1] = *lie_entry(super);
    super->generation_count = 2;
    reseal(super);
}

static void lie_number(struct superblock *super)
{
    lie_entry(super)->number = 3;
    reseal(super);
}

static void a_superblock_with_a_right_checksum_and_wrong_numbers_is_not_used(void)
{
    static void (*const lies[])(struct superblock *) = {lie_count,  lie_slot,  lie_keep,
                                                        lie_frames, lie_next,  lie_root,
                                                        lie_record, lie_order, lie_number};

    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        const char *path = new_pool();

        change_superblocks(path, lies[i]);
        check_refused(path, POOL_READ, STATUS_DAMAGED, "neither superblock");
    }
}

static void a_superblock_in_the_other_ones_place_is_not_used(void)
{
    const char *path = new_pool();
    struct superblock super;
    int fd = open(path, O_RDWR);

    CHECK(pread(fd, &super, sizeof super, FRAME_BYTES) == sizeof super); /* sequence 1 */
    CHECK(pwrite(fd, &super, sizeof super, 0) == sizeof super);
    close(fd);
    CHECK_OK(pool_open(&pool, path, POOL_READ, &why));
    CHECK(pool.super_fell_back);
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_new_pool_has_no_generations_and_is_private);
    RUN(two_pools_have_different_uuids_and_slots_as_asked);
    RUN(making_a_pool_refuses_what_is_wrong_and_leaves_no_file);
    RUN(a_pool_that_cannot_be_filled_is_removed_again);
    RUN(nobody_ever_sees_half_a_new_pool);
    RUN(a_read_only_directory_is_named_as_the_reason);
    RUN(a_missing_file_says_so);
    RUN(an_empty_file_is_no_pool);
    RUN(a_foreign_file_is_no_pool);
    RUN(a_superblock_that_is_cut_off_is_damage);
    RUN(directories_devices_and_pipes_are_no_pools);
    RUN(a_symbolic_link_is_not_followed_for_writing);
    RUN(another_users_pool_is_refused);
    RUN(one_writer_and_any_readers);
    RUN(a_relative_path_is_remembered_as_an_absolute_one);
    RUN(a_newer_format_is_told_from_damage);
    RUN(a_superblock_with_a_right_checksum_and_wrong_numbers_is_not_used);
    RUN(a_superblock_in_the_other_ones_place_is_not_used);
    scratch_end();
    return tap_done();
}
