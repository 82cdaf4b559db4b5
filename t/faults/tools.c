/*
 * tools.c - the n-th system call, or the n-th allocation, of the checker, of a copy, of a repair
 * fails, n = 1, 2, ... until a run passes untouched. What fails says why. The pool is unchanged, or
 * repaired; a copy is there whole or not at all; nothing is called damaged that is not.
 *
 * Without PHEAP_TEST_LONG some of the later n are left out, others each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"
#include "recovery/copy/copy.h"
#include "recovery/repair/repair.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/sys_faults.h"
#include "t/lib/tap.h"

#define GENERATIONS 4

static struct pool pool;
static struct oracle oracle;
static struct problem why;
static struct check_result result;
static struct finding last;

static void keep_last(void *context, const struct finding *finding)
{
    (void)context;
    last = *finding;
}

static int check_path(const char *path)
{
    const struct check_request request = {.path = path, .heaps = HEAPS_OF_ALL, .found = keep_last};

    memset(&last, 0, sizeof last);
    return check_pool(&request, &result, &why);
}

static void make_pool(void)
{
    scratch_pool(&pool, &oracle, GENERATIONS);
    oracle.fold_every = 2;
    for (unsigned i = 0; i < GENERATIONS; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, i * 7 % 40, i == 0 ? 40 : 6, 100 * (i + 1)));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 5000, &why));
    }
}

static unsigned long next_n(unsigned long n)
{
    return getenv("PHEAP_TEST_LONG") ? n + 1 : n + 1 + (unsigned long)rand() % (1 + n / 8);
}

static void say_where(enum fault_kind kind, unsigned long n, int status)
{
    tap_note("%s, n = %lu, call %ld: status %d %s, %s %s", fault_names[kind], n,
             faults_failed_call(), status, why.text, last.kind ? finding_id(last.kind) : "",
             last.found);
}

/* --- checking --- */

/* What could not be read may be called unreadable; it fails, or says so. */
static bool try_check(enum fault_kind kind, unsigned long n, unsigned long *failures)
{
    bool hit, fine;
    int status;

    why = (struct problem){0};
    faults_arm(kind, n);
    status = check_path(scratch_path("pool"));
    hit = faults_disarm();
    *failures += status < 0 || result.worst != SEVERITY_NONE;
    fine = status < 0 ? hit && why.text[0] != 0 : hit || result.worst == SEVERITY_NONE;
    if (!CHECK(fine))
        say_where(kind, n, status);
    if (!CHECK(check_path(scratch_path("pool")) == 0 && result.worst == SEVERITY_NONE))
        say_where(kind, n, status);
    return hit;
}

static void whatever_fails_while_a_pool_is_checked(void)
{
    make_pool();
    pool_close(&pool);
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        unsigned long n = 1, failures = 0;

        while (try_check(kind, n, &failures))
            n = next_n(n);
        tap_note("%s: %lu places, %lu checks failed", fault_names[kind], faults_counted(),
                 failures);
    }
}

/* --- copying --- */

static unsigned files(void)
{
    char command[256];
    unsigned count = 0;
    FILE *list;

    snprintf(command, sizeof command, "ls -A '%s'", scratch_path("."));
    list = popen(command, "r");
    for (int c; list && (c = fgetc(list)) != EOF;)
        count += c == '\n';
    if (list)
        pclose(list);
    return count;
}

static bool try_copy(enum fault_kind kind, unsigned long n, unsigned long *failures)
{
    const struct copy_request request = {.pool = &pool, .to = scratch_path("copy")};
    uint64_t bytes = 0;
    bool hit, there;
    int status;

    why = (struct problem){0};
    faults_arm(kind, n);
    status = pool_copy(&request, &bytes, &why);
    hit = faults_disarm();
    *failures += status < 0;
    there = access(scratch_path("copy"), F_OK) == 0;
    if (!CHECK(status == 0 ? there : hit && why.text[0] != 0) ||
        !CHECK(status == 0 || kind != FAULT_SHORT))
        say_where(kind, n, status);
    if (there && !CHECK(check_path(scratch_path("copy")) == 0 && result.worst == SEVERITY_NONE))
        say_where(kind, n, status);
    unlink(scratch_path("copy"));
    if (!CHECK_EQ(files(), 1))
        say_where(kind, n, status);
    return hit;
}

static void whatever_fails_while_a_pool_is_copied(void)
{
    make_pool();
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        unsigned long n = 1, failures = 0;

        while (try_copy(kind, n, &failures))
            n = next_n(n);
        tap_note("%s: %lu places, %lu copies failed", fault_names[kind], faults_counted(),
                 failures);
    }
    pool_close(&pool);
}

/* --- repairing --- */

static void flip(uint64_t offset)
{
    int fd = open(scratch_path("pool"), O_RDWR);
    uint8_t byte;

    CHECK_OK(sys_pread_all(fd, &byte, 1, offset));
    byte ^= 8;
    CHECK_OK(sys_pwrite_all(fd, &byte, 1, offset));
    close(fd);
}

static int repair(void)
{
    struct repair_plan plan;
    int status = check_path(scratch_path("pool"));

    if (status == 0)
        status = repair_plan(&plan, scratch_path("pool"), &result, &why);
    return status == 0 ? repair_apply(&plan, scratch_path("pool"), &why) : status;
}

/* The newest generation's record is spoilt; the one before it is what a repair leaves. */
static bool try_repair(enum fault_kind kind, unsigned long n, unsigned long *failures)
{
    const struct generation_entry *newest;
    uint64_t number;
    bool hit;
    int status;

    make_pool();
    newest = pool_generation(&pool, 0);
    number = newest->number;
    flip(newest->record_frame * FRAME_BYTES + 17);
    pool_close(&pool);
    unlink(scratch_path("pool.backup"));
    why = (struct problem){0};
    faults_arm(kind, n);
    status = repair();
    hit = faults_disarm();
    *failures += status < 0;
    if (!CHECK(status == 0 || (hit && why.text[0] != 0)))
        say_where(kind, n, status);
    CHECK_OK(check_path(scratch_path("pool")));
    /* Not begun, or done; a repair that failed at its last look may be done as well. */
    if (!CHECK(result.worst <= SEVERITY_HARMLESS || status < 0))
        say_where(kind, n, status);
    unlink(scratch_path("pool.backup"));
    if (result.worst > SEVERITY_HARMLESS)
        CHECK_OK(repair());
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    CHECK(pool_generation(&pool, number) == NULL);
    /* A frame that cannot be read is damaged; if it can be read the next time, that is too late. */
    if (kind != FAULT_EIO && !CHECK(pool_generation(&pool, number - 1) != NULL))
        say_where(kind, n, status);
    pool_close(&pool);
    unlink(scratch_path("pool.backup"));
    return hit;
}

static void whatever_fails_while_a_pool_is_repaired(void)
{
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        unsigned long n = 1, failures = 0;

        while (try_repair(kind, n, &failures))
            n = next_n(n);
        tap_note("%s: %lu places, %lu repairs failed", fault_names[kind], faults_counted(),
                 failures);
    }
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    srand((unsigned)getpid());
    RUN(whatever_fails_while_a_pool_is_checked);
    RUN(whatever_fails_while_a_pool_is_copied);
    RUN(whatever_fails_while_a_pool_is_repaired);
    unlink(scratch_path("pool.backup"));
    scratch_end();
    return tap_done();
}
