/*
 * objects_state.c - makes memory and files that no name leads to, in the working directory and in
 * /dev/shm, and, at each SIGUSR1, prints what it sees of them: the same each time. SIGUSR2: ends.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGES 300
#define BYTES (PAGES * 4096ul)

static unsigned char *shared, *twin, *memory_a, *memory_b, *deleted_map, *posix_map;
static int memory_fd, sealed_fd, deleted_fd, deleted_dup, temporary_fd, posix_fd, plain_fd;
static char posix_name[64];
static int fifo_both, fifo_read, fifo_write, fifo_path;

static void must(long status, const char *what)
{
    if (status < 0) {
        perror(what);
        exit(99);
    }
}

static unsigned char *map(int fd, size_t bytes, int prot, int flags)
{
    unsigned char *memory = mmap(NULL, bytes, prot, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

    if (memory == MAP_FAILED)
        must(-1, "mmap");
    return memory;
}

static void fill(unsigned char *memory, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (unsigned char)(i * 31 + i / 4096 * seed);
}

static unsigned long sum_of(const unsigned char *memory, size_t bytes)
{
    unsigned long sum = 5381;

    for (size_t i = 0; i < bytes; i++)
        sum = sum * 33 + memory[i];
    return sum;
}

static void make_shared(void)
{
    shared = map(-1, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED);
    fill(shared, BYTES / 2, 7);
    must(mprotect(shared + 8192, 4096, PROT_READ), "mprotect");
    must(mprotect(shared + 16384, 4096, PROT_NONE), "mprotect");
    twin = mremap(shared + 65536, 0, 65536, MREMAP_MAYMOVE);
    if (twin == MAP_FAILED)
        must(-1, "mremap");
}

static void make_memfds(void)
{
    memory_fd = memfd_create("memory", MFD_ALLOW_SEALING);
    must(ftruncate(memory_fd, 50 << 20), "ftruncate");
    memory_a = map(memory_fd, 65536, PROT_READ | PROT_WRITE, MAP_SHARED);
    memory_b = map(memory_fd, 65536, PROT_READ, MAP_SHARED);
    fill(memory_a, 65536, 9);
    must(pwrite(memory_fd, "far away", 8, 40 << 20), "pwrite");
    must(lseek(memory_fd, 4711, SEEK_SET), "lseek");
    must(fcntl(memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), "F_ADD_SEALS");
    sealed_fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    must(write(sealed_fd, "for ever", 8), "write");
    must(fcntl(sealed_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL),
         "F_ADD_SEALS");
    plain_fd = memfd_create("plain", 0);
}

static void make_files(void)
{
    must(deleted_fd = open("deleted", O_RDWR | O_CREAT | O_APPEND, 0640), "deleted");
    must(write(deleted_fd, "0123456789", 10), "write");
    must(ftruncate(deleted_fd, 20000), "ftruncate");
    deleted_dup = dup(deleted_fd);
    deleted_map = map(deleted_fd, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    must(unlink("deleted"), "unlink");
    deleted_map[3] = 'x';
    must(temporary_fd = open(".", O_RDWR | O_TMPFILE, 0600), "O_TMPFILE");
    must(write(temporary_fd, "temporary", 9), "write");
    snprintf(posix_name, sizeof posix_name, "/objects-state-%d", (int)getpid());
    must(posix_fd = shm_open(posix_name, O_RDWR | O_CREAT | O_EXCL, 0600), "shm_open");
    must(ftruncate(posix_fd, 3 * 4096 + 5), "ftruncate");
    posix_map = map(posix_fd, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    strcpy((char *)posix_map + 4096, "posix");
}

static void make_pipes(void)
{
    must(mkfifo("fifo", 0600), "mkfifo");
    must(fifo_both = open("fifo", O_RDWR | O_CLOEXEC), "fifo");
    must(fifo_read = open("fifo", O_RDONLY | O_NONBLOCK), "fifo");
    must(fifo_path = open("fifo", O_PATH), "fifo");
    must(fcntl(fifo_both, F_SETPIPE_SZ, 8192), "F_SETPIPE_SZ");
    must(write(fifo_both, "in the pipe", 11), "write");
    must(mkfifo("one-sided", 0600), "mkfifo");
    must(fifo_write = open("one-sided", O_RDWR), "one-sided");
}

/* What is unread is taken out and put back. */
static void print_pipe(void)
{
    char text[32] = {0};
    ssize_t got = read(fifo_read, text, sizeof text - 1);

    printf("fifo: %zd %s capacity %d flags %x %x %x %x cloexec %d\n", got, text,
           fcntl(fifo_read, F_GETPIPE_SZ), (unsigned)fcntl(fifo_both, F_GETFL),
           (unsigned)fcntl(fifo_read, F_GETFL), (unsigned)fcntl(fifo_path, F_GETFL),
           (unsigned)fcntl(fifo_write, F_GETFL), fcntl(fifo_both, F_GETFD));
    must(write(fifo_both, text, (size_t)got), "write");
    printf("empty: %d\n", (int)poll(&(struct pollfd){.fd = fifo_write, .events = POLLIN}, 1, 0));
}

static void print_file(const char *name, int fd)
{
    char path[64], link[256] = {0};
    struct stat status;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must(readlink(path, link, sizeof link - 1), path);
    must(fstat(fd, &status), "fstat");
    printf("%s: fd %d %s size %ld mode %o links %lu offset %ld flags %x %x seals %x\n", name, fd,
           strrchr(link, '/'), (long)status.st_size, (unsigned)status.st_mode,
           (unsigned long)status.st_nlink, (long)lseek(fd, 0, SEEK_CUR),
           (unsigned)fcntl(fd, F_GETFL), (unsigned)fcntl(fd, F_GETFD),
           (unsigned)fcntl(fd, F_GET_SEALS));
}

/* What is written through one way must be seen through the other. */
static void print_sharing(const char *name, volatile unsigned char *one,
                          volatile unsigned char *other)
{
    unsigned char before = *one, seen;

    *one = before ^ 0xff;
    seen = *other;
    *one = before;
    printf("%s: %s\n", name, seen == (before ^ 0xff) ? "shared" : "apart");
}

static void print_contents(void)
{
    char text[16] = {0}, far[16] = {0}, content[16] = {0};

    printf("shared %lx %lx\n", sum_of(shared, 16384), sum_of(shared + 20480, BYTES - 20480));
    printf("memory %lx %lx\n", sum_of(memory_a, 65536), sum_of(memory_b, 65536));
    must(pread(memory_fd, far, 8, 40 << 20), "pread");
    must(pread(sealed_fd, text, 8, 0), "pread");
    must(pread(deleted_fd, content, 10, 0), "pread");
    printf("far %s sealed %s write %zd deleted %s map %.10s\n", far, text,
           pwrite(sealed_fd, "x", 1, 0), content, deleted_map);
    memset(text, 0, sizeof text);
    must(pread(temporary_fd, text, 9, 0), "pread");
    printf("temporary %s posix %s\n", text, posix_map + 4096);
}

static void report(void)
{
    unsigned char byte = 0;

    print_file("memory", memory_fd);
    print_file("sealed", sealed_fd);
    print_file("plain", plain_fd);
    print_file("deleted", deleted_fd);
    lseek(deleted_fd, 5, SEEK_SET);
    printf("dup at %ld\n", (long)lseek(deleted_dup, 0, SEEK_CUR));
    lseek(deleted_fd, 10, SEEK_SET);
    print_file("temporary", temporary_fd);
    print_file("posix", posix_fd);
    print_contents();
    print_pipe();
    print_sharing("shared and twin", shared + 65536 + 77, twin + 77);
    print_sharing("two mappings of a memfd", memory_a + 5, memory_b + 5);
    posix_map[5] = 'q';
    must(pread(posix_fd, &byte, 1, 5), "pread");
    printf("posix memory and descriptor: %c\nend\n", byte);
    fflush(stdout);
}

int main(void)
{
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    make_shared();
    make_memfds();
    make_files();
    make_pipes();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    shm_unlink(posix_name);
    return 0;
}
