/*
 * malloc_limits.c - malloc where there is little: of address space, of memory, of mappings, of
 * system calls, of descriptors. Run plainly and with LD_PRELOAD, as malloc_conformance.c;
 * MALLOC_IS_GLIBC=1 leaves out what is said at the test.
 *
 * "malloc_limits exhaust" is what it runs itself as, under a limit on its address space.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "../lib/program_tap.h"

#define LIMIT_BYTES   (400ul << 20)
#define ALARM_SECONDS 60

static bool is_glibc;
static const char *own_path;

/* --- memory runs out --- */

struct chained {
    struct chained *next;
};

/* Every page is touched: memory that was handed out must be there. */
static struct chained *chain_until_null(size_t bytes, size_t *count)
{
    struct chained *first = NULL, *block;

    errno = 0;
    for (*count = 0; (block = opaque(malloc(bytes))) != NULL; ++*count) {
        for (size_t i = 0; i < bytes; i += 4096)
            ((char *)block)[i] = 1;
        block->next = first;
        first = block;
    }
    return first;
}

static void chain_free(struct chained *block)
{
    while (block) {
        struct chained *next = block->next;

        free(block);
        block = next;
    }
}

/* 0: at the end of memory all calls say ENOMEM, and what was there before is as it was. */
static int exhaust(size_t bytes)
{
    char *kept = malloc(1000), *moved;
    size_t count;
    struct chained *chain;
    bool refused;

    memset(kept, 7, 1000);
    chain = chain_until_null(bytes, &count);
    if (errno != ENOMEM || count < 2)
        return 1;
    errno = 0;
    moved = realloc(opaque(kept), 300ul << 20);
    refused = moved == NULL && errno == ENOMEM;
    errno = 0;
    refused = refused && opaque(calloc(3, opaque_size(100ul << 20))) == NULL && errno == ENOMEM;
    errno = 0;
    refused = refused && opaque(memalign(1 << 20, 300ul << 20)) == NULL && errno == ENOMEM;
    refused = refused && kept[0] == 7 && kept[999] == 7;
    chain_free(chain);
    free(kept);
    moved = malloc(1 << 20);
    if (moved == NULL || !refused)
        return 2;
    free(moved);
    return 0;
}

static void *exhaust_with_others(void *bytes)
{
    size_t count;

    chain_free(chain_until_null((size_t)(uintptr_t)bytes, &count));
    return NULL;
}

static int exhaust_in_threads(void)
{
    static const size_t sizes[] = {100000, 3000, 700000};
    pthread_t threads[3];
    char *block;

    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, exhaust_with_others, (void *)sizes[i]) != 0)
            return 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    block = malloc(1 << 20);
    free(block);
    return block ? 0 : 2;
}

static int exhaust_all_ways(void)
{
    static const size_t sizes[] = {5000000, 100000, 40000, 3000, 200};
    int bad = exhaust_in_threads(); /* first: their stacks need room too */

    for (int i = 0; i < 5 && bad == 0; i++)
        if ((bad = exhaust(sizes[i])) != 0)
            fprintf(stderr, "# blocks of %zu bytes: %d\n", sizes[i], bad);
    return bad;
}

static int exec_under_address_space_limit(void)
{
    const struct rlimit limit = {LIMIT_BYTES, LIMIT_BYTES};
    char *arguments[] = {(char *)(uintptr_t)own_path, (char *)(uintptr_t) "exhaust", NULL};

    alarm(ALARM_SECONDS);
    if (setrlimit(RLIMIT_AS, &limit) == 0)
        execv(own_path, arguments);
    return 9;
}

static void at_the_limit_of_address_space_malloc_is_ENOMEM(void)
{
    CHECK(child_says_yes(exec_under_address_space_limit));
}

/* Counts private writable memory, and refuses it when it is asked for: as a kernel does that
 * does not overcommit. */
static int exhaust_data(void)
{
    const struct rlimit limit = {LIMIT_BYTES, LIMIT_BYTES};

    alarm(ALARM_SECONDS);
    return setrlimit(RLIMIT_DATA, &limit) == 0 ? exhaust_all_ways() : 9;
}

static void where_nothing_is_overcommitted_malloc_is_ENOMEM(void)
{
    CHECK(child_says_yes(exhaust_data));
}

static int exhaust_mappings(void)
{
    static const size_t sizes[] = {64, 2000, 40000, 200000, 3000000};
    long made = 0;

    while (mmap(NULL, 4096, made % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED)
        made++;
    if (errno != ENOMEM)
        return 1;
    for (int i = 0; i < 3000; i++) {
        char *block = opaque(malloc(sizes[i % 5]));

        if (block == NULL && errno != ENOMEM)
            return 2;
        if (block)
            block[0] = block[sizes[i % 5] - 1] = 1;
        free(block);
    }
    return 0;
}

static void without_a_mapping_to_be_had_nothing_breaks(void)
{
    CHECK(child_says_yes(exhaust_mappings));
}

static long resident_bytes(void)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    long total = 0, resident = 0;

    if (statm == NULL || fscanf(statm, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    if (statm)
        fclose(statm);
    return resident * 4096;
}

static void a_large_block_takes_the_memory_that_is_touched(void)
{
    const size_t bytes = 1ul << 30;
    long before = resident_bytes();
    char *block = malloc(bytes), *zeroed = calloc(1, bytes);

    CHECK(block && zeroed && before > 0);
    block[0] = block[bytes / 2] = block[bytes - 1] = 1;
    CHECK(zeroed[0] == 0 && zeroed[bytes / 3] == 0 && zeroed[bytes - 1] == 0);
    CHECK(resident_bytes() - before < 32 << 20);
    free(block);
    free(zeroed);
}

/* --- descriptors --- */

/* Malloc had none of them, and does not take the next number either. */
static int without_descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++)
        close(fd);
    for (size_t bytes = 10; bytes < 5000000; bytes *= 3) {
        char *block = opaque(malloc(bytes));

        if (block == NULL)
            return 1;
        memset(block, 1, bytes);
        free(block);
    }
    return open("/dev/null", O_RDONLY) == 0 ? 0 : 2;
}

static void with_all_descriptors_closed_malloc_goes_on(void)
{
    CHECK(child_says_yes(without_descriptors));
}

/* --- system calls --- */

#define ALLOW(number)                                                                              \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int churn_under(struct sock_filter *filter, unsigned short length)
{
    const struct sock_fprog program = {length, filter};

    free(opaque(malloc(10))); /* as any program has done by then */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 3;
    for (int round = 0; round < 30; round++) {
        char *blocks[200];

        for (int i = 0; i < 200; i++) {
            blocks[i] = opaque(malloc((size_t)i * i * (size_t)(round + 1) + 1));
            if (blocks[i] == NULL)
                return 1;
            blocks[i][0] = 1;
        }
        for (int i = 0; i < 200; i++)
            free(blocks[i]);
    }
    return 0;
}

static int churn_where_advice_is_forbidden(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        ALLOW(SYS_mmap),
        ALLOW(SYS_munmap),
        ALLOW(SYS_mprotect),
        ALLOW(SYS_brk),
        ALLOW(SYS_futex),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };

    return churn_under(filter, sizeof filter / sizeof *filter);
}

/* What docs/user-guide.md says that malloc and free need once they have begun. */
static int churn_with_what_is_documented(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        ALLOW(SYS_mprotect),
        ALLOW(SYS_madvise),
        ALLOW(SYS_futex),
        ALLOW(SYS_clock_gettime),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };

    return churn_under(filter, sizeof filter / sizeof *filter);
}

static void a_filter_that_refuses_is_lived_with(void)
{
    CHECK(child_says_yes(churn_where_advice_is_forbidden));
}

static void a_filter_that_kills_lets_the_documented_calls_do(void)
{
    if (is_glibc) /* it needs others: brk, mmap, munmap, mremap */
        return;
    CHECK(child_says_yes(churn_with_what_is_documented));
}

int main(int argc, char **argv)
{
    own_path = argv[0];
    is_glibc = getenv("MALLOC_IS_GLIBC") != NULL;
    if (argc > 1)
        return exhaust_all_ways();
    /* First: later tests leave free memory that would hide the limits. */
    RUN(where_nothing_is_overcommitted_malloc_is_ENOMEM);
    RUN(at_the_limit_of_address_space_malloc_is_ENOMEM);
    RUN(without_a_mapping_to_be_had_nothing_breaks);
    RUN(a_large_block_takes_the_memory_that_is_touched);
    RUN(with_all_descriptors_closed_malloc_goes_on);
    RUN(a_filter_that_refuses_is_lived_with);
    RUN(a_filter_that_kills_lets_the_documented_calls_do);
    return tests_done();
}
