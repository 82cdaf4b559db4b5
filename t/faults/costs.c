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
#include <limits.h>
#include <poll.h>
#include <pthread.h>

#include "t/lib/agent_fixture.h"
#include "t/lib/golden_costs.h"
#include "t/lib/plain_surroundings.h"
#include "t/lib/sys_faults.h"

#define TRIES 6

static const struct shape {
    unsigned threads, pipes;
} shapes[] = {{1, 0}, {5, 0}, {40, 0}, {1, 10}};

static struct measured {
    struct call_counts counts;
    int frozen; /* all calls inside the freeze */
} * best, *tried;

static const struct shape *shape;

static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
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
    best->frozen = INT_MAX;
    for (unsigned i = 0; i < TRIES; i++) {
        memset(tried, 0, sizeof *tried);
        faults_count_calls(&tried->counts);
        if (agent_checkpoint(&program_link, PATIENCE_MS) < 0)
            return 3;
        faults_count_calls(NULL);
        tried->frozen = costs_total(tried->counts.frozen);
        if (tried->frozen < best->frozen)
            *best = *tried;
    }
    return 0;
}

/* Of what lies outside the freeze only what reaches the disk: the rest goes with the memory that
 * the process happens to have. */
static void describe(FILE *out)
{
    fprintf(out, "%u threads, %u pipes\n  inside the freeze: ", shape->threads, shape->pipes);
    costs_describe(out, best->counts.frozen);
    fprintf(out, "\n  outside: fdatasync %d, fallocate %d\n", best->counts.other[SYS_fdatasync],
            best->counts.other[SYS_fallocate]);
}

static void a_checkpoint_costs_what_it_cost(void)
{
    struct kernel_features features;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out;

    kernel_features_probe(&features);
    if (!features.userfaultfd_wp_async) {
        tap_skip("the costs are of a kernel that tracks written pages");
        return;
    }
    out = open_memstream(&text, &bytes);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        shape = &shapes[i];
        make_pool();
        CHECK_EQ(run(measure), 0);
        after_the_end();
        describe(out);
    }
    fclose(out);
    costs_compare(costs_path("checkpoint"), text);
    free(text);
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
