/*
 * checkpoint.c - the program that make bench-checkpoint measures: a heap of MB megabytes of which
 * PAGES random pages a second are written, and threads that look at the clock all the time.
 *
 * Arguments: MB PAGES_PER_SECOND SECONDS THREADS GAPS_FILE
 *            [fork INTERVAL_MS SNAPSHOT_FILE | burst | wait]
 *
 * A gap is the time between two looks at the clock of one thread: what a checkpoint takes from the
 * program, the scheduler's own gaps included. At its end it prints "gap P99_NS MAX_NS" of the gaps
 * above 0.1 ms (without the first second), and "looks N", how often the threads looked: its
 * throughput. A gap above 150 ms of the first thread is written to GAPS_FILE at once, with the time
 * at its end: that is how the driver sees a restored program's first action. With "fork" it makes a
 * snapshot of itself every INTERVAL_MS, in the way of Redis: fork, and the child writes the heap to
 * a file; the time that fork() took is printed as "fork NS". Told by SIGUSR1 it reads all of its
 * heap and prints "touched NS". With "burst" it writes nothing by the clock, but PAGES_PER_SECOND
 * pages at once whenever it is told to by SIGUSR2, and prints "burst". With "wait" it sleeps, once
 * its heap is there, until it is told to begin by SIGUSR2.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE        4096
#define GAP_NS      100000
#define LONG_GAP_NS 150000000
#define GAPS_MAX    1000000
#define THREADS_MAX 64
#define SECOND_NS   1000000000ull

struct worker {
    pthread_t thread;
    uint64_t random_state, looks;
    size_t gap_count;
    uint32_t *gaps;
};

static unsigned char *heap;
static size_t heap_pages;
static uint64_t begin_ns, length_ns, step_ns; /* step: between two writes of one thread */
static const char *gaps_file;
static struct worker workers[THREADS_MAX];
static volatile sig_atomic_t touch_wanted, bursts_wanted;
static size_t burst_pages;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 16;
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

static void write_long_gap(uint64_t gap_ns, uint64_t end_ns)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long)end_ns,
                          (unsigned long long)gap_ns);
    int fd = open(gaps_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, line, (size_t)length) != length)
        abort();
    close(fd);
}

static void note_gap(struct worker *worker, uint64_t gap_ns, uint64_t end_ns)
{
    if (end_ns - begin_ns > SECOND_NS && worker->gap_count < GAPS_MAX)
        worker->gaps[worker->gap_count++] = gap_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)gap_ns;
    if (gap_ns >= LONG_GAP_NS && worker == workers)
        write_long_gap(gap_ns, end_ns);
}

static void make_heap(size_t mb)
{
    uint64_t state = 1;

    heap_pages = mb * 256;
    heap = malloc(heap_pages * PAGE);
    if (!heap)
        exit(1);
    for (size_t i = 0; i < heap_pages * PAGE; i += 8) {
        uint64_t value = next_random(&state);

        memcpy(heap + i, &value, sizeof value);
    }
}

/* Returns the child's pid. */
static pid_t snapshot(const char *path)
{
    uint64_t begin = now_ns();
    pid_t child = fork();

    if (child == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        for (size_t done = 0; done < heap_pages * PAGE;) {
            ssize_t n = write(fd, heap + done, heap_pages * PAGE - done);

            if (n <= 0)
                _exit(1);
            done += (size_t)n;
        }
        _exit(fdatasync(fd) != 0);
    }
    printf("fork %llu\n", (unsigned long long)(now_ns() - begin));
    return child;
}

static void want_touch(int signal)
{
    touch_wanted = signal;
}

static void want_burst(int signal)
{
    (void)signal;
    bursts_wanted++;
}

static void write_burst(struct worker *worker)
{
    bursts_wanted--;
    for (size_t i = 0; i < burst_pages; i++)
        heap[next_random(&worker->random_state) % heap_pages * PAGE]++;
    printf("burst\n");
    fflush(stdout);
}

static void touch_all(void)
{
    uint64_t begin = now_ns(), sum = 0;

    touch_wanted = 0;
    for (size_t page = 0; page < heap_pages; page++)
        sum += heap[page * PAGE];
    printf("touched %llu %llu\n", (unsigned long long)(now_ns() - begin), (unsigned long long)sum);
    fflush(stdout);
}

/* One look at the clock, and a write if it is time for one. False: the end. */
static bool step(struct worker *worker, uint64_t *last, uint64_t *next_write)
{
    uint64_t now = now_ns();

    worker->looks++;
    if (now - *last > GAP_NS)
        note_gap(worker, now - *last, now);
    *last = now;
    if (now >= *next_write) {
        heap[next_random(&worker->random_state) % heap_pages * PAGE]++;
        *next_write += step_ns;
        if (now > *next_write + SECOND_NS / 100)
            *next_write = now; /* after a long gap: do not catch up in a burst */
    }
    return now - begin_ns < length_ns;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t last = now_ns(), next_write = last + step_ns;

    while (step(worker, &last, &next_write))
        ;
    return NULL;
}

/* The first thread, which makes the snapshots too. */
static void work_and_fork(uint64_t interval_ns, const char *path)
{
    uint64_t last = now_ns(), next_write = last + step_ns, next_snapshot = last;
    pid_t child = 0;

    while (step(&workers[0], &last, &next_write)) {
        if (touch_wanted)
            touch_all();
        if (bursts_wanted)
            write_burst(&workers[0]);
        if (interval_ns && last >= next_snapshot && (!child || waitpid(child, NULL, WNOHANG))) {
            child = snapshot(path);
            next_snapshot = last + interval_ns;
        }
    }
    if (child)
        waitpid(child, NULL, 0);
}

static void wait_to_begin(void)
{
    const struct timespec pause = {0, 1000000};

    while (!bursts_wanted)
        nanosleep(&pause, NULL);
    bursts_wanted = 0;
}

static void print_result(size_t threads)
{
    size_t count = 0;
    uint64_t looks = 0;
    uint32_t *all = malloc(threads * GAPS_MAX * sizeof *all);

    for (size_t i = 0; all && i < threads; i++) {
        memcpy(all + count, workers[i].gaps, workers[i].gap_count * sizeof *all);
        count += workers[i].gap_count;
        looks += workers[i].looks;
    }
    if (!all)
        exit(1);
    qsort(all, count, sizeof *all, compare);
    printf("gap %u %u\nlooks %llu\n", count ? all[count * 99 / 100] : 0, count ? all[count - 1] : 0,
           (unsigned long long)looks);
}

int main(int argc, char **argv)
{
    size_t threads;

    if (argc < 6)
        return 2;
    threads = strtoull(argv[4], NULL, 10);
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    step_ns = SECOND_NS * threads / strtoull(argv[2], NULL, 10);
    length_ns = strtoull(argv[3], NULL, 10) * SECOND_NS;
    gaps_file = argv[5];
    make_heap(strtoull(argv[1], NULL, 10));
    for (size_t i = 0; i < threads; i++) {
        workers[i].random_state = i + 1;
        workers[i].gaps = malloc(GAPS_MAX * sizeof *workers[i].gaps);
        if (!workers[i].gaps)
            return 1;
    }
    signal(SIGUSR1, want_touch);
    signal(SIGUSR2, want_burst);
    if (argc > 6 && strcmp(argv[6], "burst") == 0) {
        burst_pages = strtoull(argv[2], NULL, 10);
        step_ns = UINT64_MAX / 4;
    }
    printf("ready\n");
    fflush(stdout);
    if (argc > 6 && strcmp(argv[6], "wait") == 0)
        wait_to_begin();
    begin_ns = now_ns();
    for (size_t i = 1; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    work_and_fork(argc > 8 ? strtoull(argv[7], NULL, 10) * 1000000 : 0, argc > 8 ? argv[8] : NULL);
    for (size_t i = 1; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    print_result(threads);
    return 0;
}
