/*
 * costs.c - the golden costs of a checkpoint: how often each system call is made inside the freeze
 * and outside it, for programs with more and fewer threads and descriptors, and how many bytes are
 * written. t/costs/checkpoint.txt has them, checkpoint-unprivileged.txt those of an ordinary user;
 * a change of a cost is a change of these files, which
 *
 *     PHEAP_UPDATE_COSTS=1 build/faults/t/faults/costs
 *
 * writes anew, run as each of the two. Of several checkpoints of a program that does nothing the
 * cheapest counts. Calls that wait are left out. The file is of kernels that track written pages
 * (6.7 and later).
 */
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>

#include "t/lib/agent_fixture.h"
#include "t/lib/plain_surroundings.h"
#include "t/lib/sys_faults.h"

#define TRIES    6
#define TEXT_MAX 8192

static const struct shape {
    unsigned threads, pipes;
} shapes[] = {{1, 0}, {5, 0}, {40, 0}, {1, 10}};

static const struct {
    long nr;
    const char *name;
} names[] = {
    {SYS_openat, "openat"},
    {SYS_newfstatat, "newfstatat"},
    {SYS_readlinkat, "readlinkat"},
    {SYS_getdents64, "getdents64"},
    {SYS_ioctl, "ioctl"},
    {SYS_ptrace, "ptrace"},
    {SYS_process_vm_readv, "process_vm_readv"},
    {SYS_pread64, "pread64"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_mprotect, "mprotect"},
    {SYS_madvise, "madvise"},
    {SYS_pidfd_getfd, "pidfd_getfd"},
};

static struct measured {
    struct call_counts counts;
    unsigned frozen; /* all calls inside the freeze */
} * best, *tried;

static const struct shape *shape;

static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static unsigned total(const unsigned counts[COUNTED_CALLS])
{
    unsigned sum = 0;

    for (unsigned i = 0; i < COUNTED_CALLS; i++)
        sum += counts[i];
    return sum;
}

static int measure(void)
{
    struct problem why;
    int ends[2], sink = open("/dev/null", O_RDWR);

    for (int fd = 0; fd < 3; fd++)
        dup2(sink, fd);
    close_range(3, ~0u, 0);
    for (unsigned i = 1; i < shape->threads; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
            return 1;
    }
    for (unsigned i = 0; i < shape->pipes; i++)
        if (pipe(ends) < 0)
            return 1;
    if (start(0, &why) < 0 || agent_checkpoint(&program_link, PATIENCE_MS) < 0)
        return 2;
    best->frozen = ~0u;
    for (unsigned i = 0; i < TRIES; i++) {
        memset(tried, 0, sizeof *tried);
        faults_count_calls(&tried->counts);
        if (agent_checkpoint(&program_link, PATIENCE_MS) < 0)
            return 3;
        faults_count_calls(NULL);
        tried->frozen = total(tried->counts.frozen);
        if (tried->frozen < best->frozen)
            *best = *tried;
    }
    return 0;
}

static void append(char text[TEXT_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(char text[TEXT_MAX], const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, TEXT_MAX - used, format, args);
    va_end(args);
}

static void append_counts(char text[TEXT_MAX], const char *what, const unsigned *counts)
{
    unsigned left = total(counts);

    append(text, "  %s: %u calls", what, left);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (counts[names[i].nr])
            append(text, ", %s %u", names[i].name, counts[names[i].nr]);
        left -= counts[names[i].nr];
    }
    append(text, ", others %u\n", left);
}

/* Of what lies outside the freeze only what reaches the disk: the rest goes with the memory that
 * the process happens to have. */
static void append_shape(char text[TEXT_MAX])
{
    append(text, "%u threads, %u pipes\n", shape->threads, shape->pipes);
    append_counts(text, "inside the freeze", best->counts.frozen);
    append(text, "  outside: fdatasync %u, fallocate %u\n", best->counts.other[SYS_fdatasync],
           best->counts.other[SYS_fallocate]);
}

static void compare(const char *text)
{
    static char golden[TEXT_MAX];
    FILE *file = fopen(golden_costs("checkpoint"), "r");

    if (!CHECK(file != NULL))
        return;
    golden[fread(golden, 1, sizeof golden - 1, file)] = 0;
    fclose(file);
    CHECK_STR(text, golden);
}

static void a_checkpoint_costs_what_it_cost(void)
{
    static char text[TEXT_MAX];
    struct kernel_features features;
    FILE *file;

    kernel_features_probe(&features);
    if (!features.userfaultfd_wp_async) {
        tap_skip("the costs are of a kernel that tracks written pages");
        return;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        shape = &shapes[i];
        make_pool();
        CHECK_EQ(run(measure), 0);
        after_the_end();
        append_shape(text);
    }
    if (!getenv("PHEAP_UPDATE_COSTS")) {
        compare(text);
        return;
    }
    file = fopen(golden_costs("checkpoint"), "w");
    if (CHECK(file != NULL)) {
        fputs(text, file);
        fclose(file);
    }
}

int main(int argc, char **argv)
{
    BEGIN_PLAIN(argv);
    if (fixture_begin(argc, argv) != 0)
        return 1;
    best = mmap(NULL, 2 * sizeof *best, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (best == MAP_FAILED)
        return 1;
    tried = best + 1;
    RUN(a_checkpoint_costs_what_it_cost);
    return fixture_end();
}
