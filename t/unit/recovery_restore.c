/*
 * recovery_restore.c - from a running process to a generation to a running process again, with
 * a companion of the test's own instead of the agent: this program starts itself anew as the
 * subject
 * ("--subject POOL DIRECTORY"), which checkpoints itself once and goes on.
 *
 * The subject counts in several threads, appends to a file, keeps pipes, an eventfd, a timer and a
 * handler, and writes "ok" or what is wrong into the file `verdict` when it has been restored.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/agent/freeze.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/image/image_writer.h"
#include "core/process/capture.h"
#include "core/process/syscall_restart.h"
#include "recovery/restore/restore.h"
#include "t/lib/tap.h"

#define SLOT         7
#define THREADS      4
#define SLOT_PAGES   3000
#define RECORD_BYTES (4u << 20)
#define STACK_BYTES  (256u << 10)

/* --- the subject --- */

static struct subject {
    const char *pool_path;
    const char *directory;
    int checkpoint_status; /* 1: not yet */
    uint64_t resumed;      /* generation, set by the resume entry */
    char checkpoint_text[PROBLEM_TEXT_BYTES];
    int companion_pid;
    uint64_t counters[THREADS];
    volatile int stop;
    volatile int handled;
    int append_fd, twin_fd, pipe_fd[2], event_fd, epoll_fd;
    pthread_t threads[THREADS];
    pthread_mutex_t mutex;
    int tids[THREADS];
} subject = {.checkpoint_status = 1, .mutex = PTHREAD_MUTEX_INITIALIZER};

static long resume_entry(const struct resume_arguments *arguments)
{
    subject.resumed = arguments->generation;
    return 0;
}

static void *count(void *argument)
{
    uint64_t *counter = argument;
    static __thread int mine; /* thread-local storage comes back */

    subject.tids[counter - subject.counters] = (int)syscall(SYS_gettid);
    while (!subject.stop) {
        struct timespec pause = {0, 200000};

        pthread_mutex_lock(&subject.mutex);
        ++*counter;
        pthread_mutex_unlock(&subject.mutex);
        nanosleep(&pause, NULL);
        mine++;
    }
    return (void *)(uintptr_t)((int)syscall(SYS_gettid) ==
                                   subject.tids[counter - subject.counters] &&
                               mine > 0);
}

static void handle(int signal)
{
    subject.handled = signal;
}

/* The agent's own memory is never saved, and the pool's mappings are known as such. */
static int describe_space(struct address_space *space, const struct arena *arena,
                          const struct pool *pool)
{
    struct stat stat;
    int status = sys_fstat(pool->fd, &stat);

    *space = (struct address_space){.excluded_count = 1};
    space->excluded[0] = (struct address_range){arena->base, arena->reserved_end};
    space->pool_dev_major = major(stat.st_dev);
    space->pool_dev_minor = minor(stat.st_dev);
    space->pool_inode = stat.st_ino;
    return status;
}

static int companion_checkpoint(struct arena *arena, struct problem *why)
{
    static uint32_t tid;
    struct pool *pool = arena_alloc(arena, sizeof *pool, 16);
    struct image_writer *writer;
    struct image_writer_options options = {.track = TRACKING_CHECKSUM, .scratch_bytes = 32 << 20};
    struct kernel_features features = {0};
    struct address_space space = {0};
    struct freeze freeze;
    struct restart_table *table;
    struct generation_entry entry = {.kind = GENERATION_PROCESS, .slot = SLOT};
    struct record_writer record = {.buffer = arena_alloc(arena, RECORD_BYTES, 16),
                                   .size = RECORD_BYTES};
    struct capture capture = {
        .slot = SLOT, .resume_entry = (uintptr_t)resume_entry, .scratch = arena, .space = &space};
    int status, program = (int)sys_call(SYS_getppid);

    capture.pid = program;
    capture.call_stack_top =
        (uintptr_t)arena_alloc(arena, CAPTURE_STACK_BYTES, 4096) + CAPTURE_STACK_BYTES;
    tid = (uint32_t)sys_call(SYS_set_tid_address, &tid);
    capture.tracer = &tid;
    options.features = &features;
    status = capture_cache_create(&capture.cache, arena);
    if (status == 0)
        status = restart_table_create(&table, arena);
    if (status == 0)
        status = pool_open(pool, subject.pool_path, POOL_WRITE, why);
    if (status == 0)
        status = pool_load(pool, arena, subject.resumed, why);
    if (status == 0)
        status = image_writer_create(&writer, arena, pool, &options, why);
    if (status == 0)
        status = describe_space(&space, arena, pool);
    if (status < 0)
        return status;
    if (image_writer_precopy(writer, &space, why) < 0)
        return -EIO;
    status = process_capture_prepare(&capture, why);
    if (status < 0)
        return status;
    freeze_create(&freeze, arena, table, program, NULL);
    status = freeze_stop(&freeze, 500000000, why);
    if (status < 0)
        return status;
    capture.threads = freeze.tracees;
    capture.thread_count = freeze.count;
    if (status == 0)
        status = maps_read(&space, "/proc/self/maps", arena);
    if (status == 0)
        status = image_writer_cut(writer, &space, 0, why);
    if (status == 0)
        status = process_capture(&capture, &record, why);
    freeze_release(&freeze);
    if (status < 0)
        return status;
    return image_writer_commit(writer, &entry, record.buffer, record.used, why);
}

static void run_started(struct superblock *super, void *context)
{
    (void)context;
    super->run_state = RUN_STARTED;
    super->run_first_generation = 1;
}

struct companion {
    struct arena arena;
    uint8_t *stack;
};

static int companion_main(void *argument)
{
    struct companion *companion = argument;
    struct problem why = {0};
    uint64_t mask = ~0ull;
    int status;

    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
    (void)sys_call(SYS_close_range, 0, ~0u, 0);
    status = companion_checkpoint(&companion->arena, &why);
    memcpy(subject.checkpoint_text, why.text, sizeof why.text);
    if (status > 0)
        status = -EPROTO;
    __atomic_store_n(&subject.checkpoint_status, status, __ATOMIC_SEQ_CST);
    (void)sys_call(SYS_exit, 0);
    return 0;
}

static void checkpoint_myself(void)
{
    static struct companion companion;
    uint64_t before = subject.resumed;

    if (arena_create(&companion.arena, 1ull << 30) != 0)
        abort();
    companion.stack = arena_alloc(&companion.arena, STACK_BYTES, 4096);
    subject.companion_pid =
        clone(companion_main, companion.stack + STACK_BYTES, CLONE_VM | CLONE_UNTRACED, &companion);
    /* The image was cut in this loop: a restored subject leaves it by the resume entry's mark. */
    for (int i = 0; i < 20000 && __atomic_load_n(&subject.resumed, __ATOMIC_SEQ_CST) == before &&
                    __atomic_load_n(&subject.checkpoint_status, __ATOMIC_SEQ_CST) == 1;
         i++)
        usleep(500);
}

static void fill_slot(void)
{
    uint64_t *words =
        mmap((void *)SLOT_BASE(SLOT), SLOT_BYTES, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    mprotect(words, SLOT_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE);
    for (uint64_t i = 0; i < SLOT_PAGES; i++)
        if (i % 7 != 3) /* some pages stay untouched */
            words[i * 512] = i + 1;
}

static const char *check_slot(void)
{
    const uint64_t *words = (const uint64_t *)SLOT_BASE(SLOT);

    for (uint64_t i = 0; i < SLOT_PAGES; i++)
        if (words[i * 512] != (i % 7 != 3 ? i + 1 : 0))
            return "the slot's contents";
    return NULL;
}

static const char *check_descriptors(void)
{
    struct epoll_event event = {0};
    uint64_t value = 0;
    char text[32] = {0};

    if (read(subject.pipe_fd[0], text, sizeof text) != 6 || strcmp(text, "unread") != 0)
        return "the pipe's content";
    if (!(fcntl(subject.pipe_fd[0], F_GETFL) & O_NONBLOCK) ||
        (fcntl(subject.pipe_fd[1], F_GETFL) & O_NONBLOCK))
        return "the pipe's flags";
    if (fcntl(subject.pipe_fd[0], F_GETFD) != FD_CLOEXEC || fcntl(subject.pipe_fd[1], F_GETFD) != 0)
        return "close-on-exec";
    if (epoll_wait(subject.epoll_fd, &event, 1, 0) != 1 || event.data.u64 != 4711)
        return "the epoll's watch";
    if (read(subject.event_fd, &value, 8) != 8 || value != 42)
        return "the eventfd's count";
    lseek(subject.append_fd, -3, SEEK_CUR);
    if (lseek(subject.twin_fd, 0, SEEK_CUR) != 4)
        return "the shared offset";
    return fcntl(200, F_GETFD) == -1 ? NULL : "a descriptor too many";
}

static void set_attributes(void)
{
    struct rlimit limit;
    union sigval value = {.sival_int = 4712};
    sigset_t mask;

    umask(027);
    signal(SIGUSR1, handle);
    prctl(PR_SET_NAME, "the subject");
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 333;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (sigqueue(getpid(), SIGUSR2, value) != 0 || flock(subject.append_fd, LOCK_EX) != 0)
        abort();
}

static const char *check_attributes(void)
{
    struct timespec none = {0, 0};
    struct rlimit limit;
    siginfo_t info = {0};
    sigset_t mask;
    int fd = open("log", O_RDONLY | O_CLOEXEC);

    sigprocmask(SIG_BLOCK, NULL, &mask);
    if (!sigismember(&mask, SIGUSR2) || sigismember(&mask, SIGUSR1))
        return "the signal mask";
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    if (sigtimedwait(&mask, &info, &none) != SIGUSR2 || info.si_value.sival_int != 4712)
        return "the pending signal";
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur != 333)
        return "the limit of descriptors";
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return "the lock";
    close(fd);
    return umask(0) == 027 ? NULL : "the umask";
}

static const char *check_everything(int pid, uint64_t at_checkpoint)
{
    const char *wrong = check_slot();
    char name[16] = {0}, directory[PATH_MAX], exe[PATH_MAX] = {0};
    struct timespec second = {0, 50000000};

    if (wrong == NULL)
        wrong = check_descriptors();
    if (wrong == NULL)
        wrong = check_attributes();
    if (wrong != NULL)
        return wrong;
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "the subject") != 0)
        return "the name";
    if (getcwd(directory, sizeof directory) == NULL || strcmp(directory, subject.directory) != 0)
        return "the working directory";
    if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0 ||
        strstr(exe, "recovery_restore") == NULL)
        return "the executable";
    if (getpid() != pid || syscall(SYS_gettid) != pid)
        return "the pid";
    raise(SIGUSR1);
    if (subject.handled != SIGUSR1)
        return "the signal handler";
    nanosleep(&second, NULL);
    pthread_mutex_lock(&subject.mutex);
    for (int i = 0; i < THREADS; i++)
        if (subject.counters[i] <= at_checkpoint)
            wrong = "a thread stands still";
    pthread_mutex_unlock(&subject.mutex);
    subject.stop = 1;
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;

        if (pthread_join(subject.threads[i], &result) != 0 || result == NULL)
            return "joining a thread";
    }
    if (sbrk(1 << 20) == (void *)-1 || malloc(10 << 20) == NULL)
        return "the brk area";
    return wrong;
}

static void say(const char *name, const char *text)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", subject.directory, name);
    file = fopen(path, "w");
    if (file == NULL)
        abort();
    fprintf(file, "%s\n", text);
    fclose(file);
}

static void open_descriptors(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 4711};
    uint64_t value = 42;

    subject.append_fd = open("log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    subject.twin_fd = fcntl(subject.append_fd, F_DUPFD, 77);
    if (write(subject.append_fd, "before\n", 7) != 7 || pipe2(subject.pipe_fd, O_CLOEXEC) != 0)
        abort();
    fcntl(subject.pipe_fd[1], F_SETFD, 0);
    fcntl(subject.pipe_fd[0], F_SETFL, O_NONBLOCK);
    subject.event_fd = eventfd(0, 0);
    subject.epoll_fd = epoll_create1(0);
    epoll_ctl(subject.epoll_fd, EPOLL_CTL_ADD, subject.event_fd, &event);
    if (write(subject.pipe_fd[1], "unread", 6) != 6 || write(subject.event_fd, &value, 8) != 8)
        abort();
}

/* Checkpoints, says so, and waits to be killed; returns in the process that was restored. */
static void be_killed_and_restored(const char *state)
{
    uint64_t before = subject.resumed;

    subject.checkpoint_status = 1;
    checkpoint_myself();
    if (subject.resumed != before)
        return;
    if (subject.checkpoint_status != 0)
        say("verdict", subject.checkpoint_text);
    if (write(subject.append_fd, "after\n", 6) != 6)
        abort();
    say("state", state);
    for (;;)
        pause();
}

static int subject_main(const char *pool_path, const char *directory)
{
    const char *wrong;
    uint64_t *page = (uint64_t *)SLOT_BASE(SLOT);
    int pid = getpid();

    subject.pool_path = strdup(pool_path);
    subject.directory = strdup(directory);
    if (chdir(directory) != 0)
        return 9;
    fill_slot();
    open_descriptors();
    set_attributes();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&subject.threads[i], NULL, count, &subject.counters[i]);
    usleep(20000);
    be_killed_and_restored("1");
    /* From the pool's frames to the next generation: a page written, one dropped. */
    page[0] = 4711;
    mmap(page + 512, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
         -1, 0);
    be_killed_and_restored("2");
    wrong = page[0] == 4711 && page[512] == 0 ? NULL : "the second generation's pages";
    page[0] = 1;
    page[512] = 2;
    if (wrong == NULL)
        wrong = check_everything(pid, 1);
    say("verdict", wrong != NULL ? wrong : "ok");
    exit(wrong != NULL ? 1 : 17);
}

/* --- the tests --- */

static char directory[512], pool_path[600], self[PATH_MAX];

static void read_small(const char *name, char *text, size_t size)
{
    char path[PATH_MAX];
    int fd;
    ssize_t got = 0;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDONLY);
    if (fd >= 0) {
        got = read(fd, text, size - 1);
        close(fd);
    }
    text[got > 0 ? got : 0] = 0;
}

/* Until the subject has said so, or 10 s. */
static void wait_for_state(const char *state)
{
    char text[16] = {0};

    for (int i = 0; i < 10000 && strncmp(text, state, 1) != 0; i++) {
        usleep(1000);
        read_small("state", text, sizeof text);
    }
    CHECK_EQ(text[0], state[0]);
}

static int start_subject(void)
{
    int pid = fork();

    if (pid == 0) {
        /* Were they this test's own files, the restore would cut them back. */
        int null = open("/dev/null", O_RDWR);

        dup2(null, 1);
        dup2(null, 2);
        close(null);
        execl(self, self, "--subject", pool_path, directory, NULL);
        _exit(127);
    }
    wait_for_state("1");
    return pid;
}

static void make_pool(void)
{
    struct problem why = {0};
    struct pool pool;

    unlink(pool_path);
    CHECK_OK(pool_create(pool_path, SLOT, 3, &why));
    CHECK_OK(pool_open(&pool, pool_path, POOL_WRITE, &why));
    CHECK_OK(pool_update(&pool, run_started, NULL, &why));
    pool_close(&pool);
}

static bool restore(struct restored *restored)
{
    struct restore_options options = {.pool_path = pool_path};
    struct problem why = {0};
    uint64_t begin = sys_clock_ns(CLOCK_MONOTONIC);
    int status = restore_process(&options, restored, &why);

    CHECK_EQ(status, 0);
    if (status != 0)
        tap_note("%s", why.text);
    else
        tap_note("pid %d, outer pid %d, restored in %lu us", restored->pid, restored->outer_pid,
                 (unsigned long)(sys_clock_ns(CLOCK_MONOTONIC) - begin) / 1000);
    return status == 0;
}

static void check_text(const char *name, const char *expected)
{
    char text[PROBLEM_TEXT_BYTES];

    read_small(name, text, sizeof text);
    CHECK_STR(text, expected);
}

static void a_process_killed_twice_goes_on_from_its_generations(void)
{
    struct restored restored;
    int pid, status;

    make_pool();
    pid = start_subject();
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    check_text("verdict", "");
    check_text("log", "before\nafter\n");
    if (!restore(&restored))
        return;
    CHECK_EQ(restored.pid, pid);
    wait_for_state("2");
    check_text("verdict", "");
    check_text("log", "before\nafter\n");
    kill(restored.outer_pid, SIGKILL);
    status = restore_wait(&restored);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGKILL);
    if (!restore(&restored))
        return;
    CHECK_EQ(restored.pid, pid);
    status = restore_wait(&restored);
    CHECK_EQ(status, 17 << 8);
    check_text("verdict", "ok\n");
    check_text("log", "before\n");
}

static void remove_files(void)
{
    const char *names[] = {"pool", "log", "verdict", "state"};
    char path[PATH_MAX];

    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");

    if (argc == 4 && strcmp(argv[1], "--subject") == 0)
        return subject_main(argv[2], argv[3]);
    tap_arguments(argc, argv);
    snprintf(directory, sizeof directory, "%s/pheap-restore-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(directory) == NULL || readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    snprintf(pool_path, sizeof pool_path, "%s/pool", directory);
    RUN(a_process_killed_twice_goes_on_from_its_generations);
    remove_files();
    return tap_done();
}
