/*
 * checkpoint.c - the program that make bench-checkpoint measures: a heap of MB megabytes of which
 * PAGES random pages a second are written, and a loop that looks at the clock all the time.
 *
 * Arguments: MB PAGES_PER_SECOND SECONDS GAPS_FILE [fork INTERVAL_MS SNAPSHOT_FILE]
 *
 * A gap is the time between two looks at the clock: what a checkpoint takes from the program, the
 * scheduler's own gaps included. At its end it prints "gap P99_NS MAX_NS" of the gaps above 0.1 ms
 * (without the first second). A gap above 150 ms is written to GAPS_FILE at once, with the time at
 * its end: that is how the driver sees a restored program's first action. With "fork" it makes a
 * snapshot of itself every INTERVAL_MS, in the way of Redis: fork, and the child writes the heap to
 * a file; the time that fork() took is printed as "fork NS".
 */
#include <fcntl.h>
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
#define SECOND_NS   1000000000ull

static unsigned char *heap;
static size_t heap_pages;
static uint64_t random_state = 1;
static uint32_t gaps[GAPS_MAX];
static size_t gap_count;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 16;
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

static void note_gap(uint64_t gap_ns, uint64_t end_ns, bool counts, const char *gaps_file)
{
    char line[64];
    int fd, length;

    if (counts && gap_count < GAPS_MAX)
        gaps[gap_count++] = gap_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)gap_ns;
    if (gap_ns < LONG_GAP_NS)
        return;
    length = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long)end_ns,
                      (unsigned long long)gap_ns);
    fd = open(gaps_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, (size_t)length) != length)
        abort();
    close(fd);
}

static void make_heap(size_t mb)
{
    heap_pages = mb * 256;
    heap = malloc(heap_pages * PAGE);
    if (!heap)
        exit(1);
    for (size_t i = 0; i < heap_pages * PAGE; i += 8) {
        uint64_t value = next_random();

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

int main(int argc, char **argv)
{
    uint64_t begin, last, next_write, next_snapshot, step_ns, interval_ns = 0;
    pid_t child = 0;

    if (argc < 5)
        return 2;
    make_heap(strtoull(argv[1], NULL, 10));
    step_ns = SECOND_NS / strtoull(argv[2], NULL, 10);
    if (argc > 7)
        interval_ns = strtoull(argv[6], NULL, 10) * 1000000;
    printf("ready\n");
    fflush(stdout);
    begin = last = next_write = next_snapshot = now_ns();
    while (last - begin < strtoull(argv[3], NULL, 10) * SECOND_NS) {
        uint64_t now = now_ns();

        if (now - last > GAP_NS)
            note_gap(now - last, now, now - begin > SECOND_NS, argv[4]);
        last = now;
        if (now >= next_write) {
            heap[next_random() % heap_pages * PAGE]++;
            next_write += step_ns;
            if (now > next_write + SECOND_NS / 100)
                next_write = now; /* after a long gap: do not catch up in a burst */
        }
        if (interval_ns && now >= next_snapshot && (!child || waitpid(child, NULL, WNOHANG))) {
            child = snapshot(argv[7]);
            next_snapshot = now + interval_ns;
        }
    }
    if (child)
        waitpid(child, NULL, 0);
    qsort(gaps, gap_count, sizeof gaps[0], compare);
    printf("gap %u %u\n", gap_count ? gaps[gap_count * 99 / 100] : 0,
           gap_count ? gaps[gap_count - 1] : 0);
    return 0;
}
