/*
 * process_batch.c - batches: the executor anywhere in memory, references to earlier results,
 * expectations. The executor is run in this process itself, from a copy at another address.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/process/batch.h"
#include "t/lib/tap.h"

extern const char __start_batch_blob[], __stop_batch_blob[];

typedef long executor(struct batch_list *list);

/* A copy of the executor at an address of the kernel's choice. */
static executor *copied_executor(void)
{
    size_t size = (size_t)(__stop_batch_blob - __start_batch_blob);
    uint8_t *copy = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t entry = (uintptr_t)copy + ((uintptr_t)batch_blob_run - (uintptr_t)__start_batch_blob);

    memcpy(copy, __start_batch_blob, size);
    mprotect(copy, 65536, PROT_READ | PROT_EXEC);
    return (executor *)entry;
}

static long run(struct batch *batch)
{
    struct batch_list list = {.count = batch->count, .calls = (uintptr_t)batch->calls};

    return copied_executor()(&list);
}

static struct arena arena;

static struct batch new_batch(size_t calls)
{
    struct batch batch;

    CHECK_OK(batch_create(&batch, &arena, 0x10000, calls, 4096));
    return batch;
}

static void results_of_earlier_calls_become_arguments(void)
{
    struct batch batch = new_batch(8);
    int ends[2] = {-1, -1};
    char text[8] = {0};
    size_t copy;

    batch_add(&batch, "pipe", SYS_pipe2, BATCH_ARGS((uintptr_t)ends, 0));
    batch_add(&batch, "write", SYS_write, BATCH_ARGS((uintptr_t)&ends[1], (uintptr_t) "hello", 5));
    batch_refer(&batch, 0, BATCH_INT_AT);
    batch_expect(&batch, 5);
    copy = batch_add(&batch, "dup", SYS_dup, BATCH_ARGS((uintptr_t)&ends[0]));
    batch_refer(&batch, 0, BATCH_INT_AT);
    batch_add(&batch, "read", SYS_read, BATCH_ARGS(copy, (uintptr_t)text, 8));
    batch_refer(&batch, 0, BATCH_RESULT);
    batch_expect(&batch, 5);
    CHECK_EQ(run(&batch), 4);
    CHECK_STR(text, "hello");
    close((int)batch_result(&batch, copy));
    close(ends[0]);
    close(ends[1]);
}

static void a_list_stops_where_an_expectation_fails(void)
{
    struct batch batch = new_batch(8);

    batch_add(&batch, "fine", SYS_getpid, BATCH_ARGS(0));
    batch_add(&batch, "may fail", SYS_close, BATCH_ARGS(-1ul));
    batch_may_fail(&batch);
    batch_add(&batch, "fails", SYS_close, BATCH_ARGS(-1ul));
    batch_add(&batch, "never", SYS_getpid, BATCH_ARGS(0));
    CHECK_EQ(run(&batch), 2);
    CHECK_EQ(batch_result(&batch, 1), -EBADF);
    CHECK_EQ(batch_result(&batch, 3), 0);
    batch = new_batch(8);
    batch_add(&batch, "another result", SYS_getpid, BATCH_ARGS(0));
    batch_expect(&batch, 1);
    CHECK_EQ(run(&batch), 0);
}

static void a_full_batch_fails_and_is_not_run(void)
{
    struct batch batch = new_batch(2);
    struct problem why = {0};
    struct tracee nobody = {0};

    for (int i = 0; i < 3; i++)
        batch_add(&batch, "call", SYS_getpid, BATCH_ARGS(0));
    CHECK_EQ(batch.count, 2);
    CHECK_EQ(batch_run(&batch, &nobody, &why), STATUS_LIMIT);
    batch = new_batch(2);
    CHECK(batch_room(&batch, 4000) != 0);
    CHECK_EQ(batch_room(&batch, 4000), 0);
    CHECK_EQ(batch.failed, STATUS_LIMIT);
}

static void data_lies_where_the_tracee_will_see_it(void)
{
    struct batch batch = new_batch(2);
    uint64_t address = batch_string(&batch, "text");
    size_t at = address - (batch.base + PAGE_BYTES + BATCH_STACK_BYTES);

    CHECK(at >= sizeof(struct batch_list) && at < batch.data_size);
    CHECK_STR((const char *)batch.data + at, "text");
    CHECK(batch_trap_address(&batch) - batch.base < PAGE_BYTES);
    CHECK(batch.area_bytes >= PAGE_BYTES + BATCH_STACK_BYTES + batch.data_size);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (arena_create(&arena, 64 << 20) != 0)
        return 1;
    RUN(results_of_earlier_calls_become_arguments);
    RUN(a_list_stops_where_an_expectation_fails);
    RUN(a_full_batch_fails_and_is_not_run);
    RUN(data_lies_where_the_tracee_will_see_it);
    arena_destroy(&arena);
    return tap_done();
}
