/*
 * files_state.c - has files open in every way that the kernel knows, in the working directory, and,
 * at each SIGUSR1, prints what it sees of them: the same each time. SIGUSR2: ends.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOVED 90

static int plain, twin, appended, path_only, through_path, folder_fd, device, passed, own_pidfd;
static int inner, outer, counter_fd, read_end, write_end, timer_fd, signals_fd;
static DIR *folder;

static int must(int fd, const char *what)
{
    if (fd < 0) {
        perror(what);
        exit(99);
    }
    return fd;
}

/* As SCM_RIGHTS brings it from another process. */
static int pass(int fd)
{
    char room[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int pair[2], got;

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    must((int)sendmsg(pair[0], &message, 0), "sendmsg");
    must((int)recvmsg(pair[1], &message, 0), "recvmsg");
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
    close(pair[0]);
    close(pair[1]);
    return got;
}

static void lock(int fd, int command, short kind, off_t start, off_t bytes)
{
    struct flock range = {.l_type = kind, .l_whence = SEEK_SET, .l_start = start, .l_len = bytes};

    must(fcntl(fd, command, &range), "lock");
}

static void make_files(void)
{
    plain = must(open("plain", O_RDWR | O_CREAT | O_EXCL, 0640), "plain");
    must((int)write(plain, "0123456789abcdef", 16), "write");
    must((int)lseek(plain, 5, SEEK_SET), "lseek");
    must(dup2(plain, MOVED), "dup2");
    twin = must(open("plain", O_RDONLY | O_CLOEXEC | O_NOATIME), "twin");
    passed = pass(plain);
    appended = must(open("appended", O_WRONLY | O_APPEND | O_CREAT | O_DSYNC, 0600), "appended");
    must((int)write(appended, "line\n", 5), "write");
    path_only = must(open("plain", O_PATH | O_CLOEXEC), "O_PATH");
    through_path = must(open(".", O_PATH | O_DIRECTORY), "O_PATH");
    folder_fd = must(open(".", O_RDONLY | O_DIRECTORY), "folder");
    device = must(open("/dev/urandom", O_RDONLY | O_NONBLOCK), "device");
    lock(plain, F_SETLK, F_WRLCK, 2, 3);
    lock(plain, F_SETLK, F_RDLCK, 100, 0);
    lock(twin, F_OFD_SETLK, F_RDLCK, 50, 7);
    must(flock(appended, LOCK_EX), "flock");
    folder = opendir(".");
    (void)readdir(folder);
}

static void make_events(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x123456789abcdef0};
    const struct itimerspec far = {.it_value = {5000, 0}, .it_interval = {7, 9}};
    sigset_t watched;
    int ends[2];

    counter_fd = must(eventfd(7, EFD_NONBLOCK), "eventfd");
    inner = must(epoll_create1(EPOLL_CLOEXEC), "epoll");
    outer = must(epoll_create1(0), "epoll");
    must(epoll_ctl(inner, EPOLL_CTL_ADD, counter_fd, &event), "epoll_ctl");
    event.events = EPOLLIN;
    event.data.u64 = 42;
    must(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event), "epoll_ctl");
    must(pipe2(ends, O_NONBLOCK), "pipe");
    read_end = ends[0];
    write_end = ends[1];
    must(fcntl(write_end, F_SETPIPE_SZ, 1 << 20), "F_SETPIPE_SZ");
    must((int)write(write_end, "unread", 6), "write");
    timer_fd = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), "timerfd");
    must(timerfd_settime(timer_fd, 0, &far, NULL), "timerfd");
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    signals_fd = must(signalfd(-1, &watched, SFD_CLOEXEC), "signalfd");
    sigprocmask(SIG_BLOCK, &watched, NULL);
    kill(getpid(), SIGTERM);
    own_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
}

static void print_fd(const char *name, int fd)
{
    struct stat stat = {0};
    char link[300] = "", text[40];

    snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
    if (readlink(text, link, sizeof link - 1) < 0)
        snprintf(link, sizeof link, "none");
    fstat(fd, &stat);
    printf("%s: %d %s at %ld flags %x fd flags %x mode %o size %ld\n", name, fd, link,
           (long)lseek(fd, 0, SEEK_CUR), (unsigned)fcntl(fd, F_GETFL), (unsigned)fcntl(fd, F_GETFD),
           stat.st_mode, S_ISREG(stat.st_mode) ? (long)stat.st_size : 0L);
}

/* What another process may not do: a lock that is not there any more would let it. */
static int child_finds_locks(void)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int status, fd;

    if (fork() == 0) {
        int found = 0;

        fd = open("plain", O_RDWR);
        range.l_start = 3, range.l_len = 1;
        found |= fcntl(fd, F_GETLK, &range) == 0 && range.l_type == F_WRLCK && range.l_start == 2;
        range = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5000};
        found |= (fcntl(fd, F_GETLK, &range) == 0 && range.l_type == F_RDLCK) << 1;
        range = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 52, .l_len = 1};
        found |= (fcntl(fd, F_GETLK, &range) == 0 && range.l_pid == -1) << 2;
        found |= (flock(open("appended", O_RDONLY), LOCK_EX | LOCK_NB) != 0) << 3;
        _exit(found);
    }
    wait(&status);
    return WEXITSTATUS(status);
}

static void report(void)
{
    struct epoll_event event = {0};
    struct itimerspec left;
    struct dirent *entry = readdir(folder);
    long position = telldir(folder);
    char text[8] = "";

    print_fd("plain", plain);
    print_fd("moved", MOVED);
    print_fd("passed", passed);
    print_fd("twin", twin);
    print_fd("appended", appended);
    print_fd("path", path_only);
    print_fd("folder by path", through_path);
    print_fd("folder", folder_fd);
    print_fd("device", device);
    lseek(MOVED, 9, SEEK_SET);
    printf("shared offsets %ld %ld, own %ld\n", (long)lseek(plain, 0, SEEK_CUR),
           (long)lseek(passed, 0, SEEK_CUR), (long)lseek(twin, 0, SEEK_CUR));
    lseek(plain, 5, SEEK_SET);
    printf("locks %x\n", (unsigned)child_finds_locks());
    printf("in the folder %d at %d\n", entry != NULL, position != 0);
    seekdir(folder, position);
    printf("pipe %zd %s, capacity %d\n", read(read_end, text, sizeof text), text,
           fcntl(read_end, F_GETPIPE_SZ));
    if (write(write_end, "unread", 6) != 6)
        exit(98);
    timerfd_gettime(timer_fd, &left);
    printf("timerfd left %d interval %ld.%09ld; signalfd readable %d flags %x\n",
           left.it_value.tv_sec > 4900, (long)left.it_interval.tv_sec, left.it_interval.tv_nsec,
           poll(&(struct pollfd){signals_fd, POLLIN, 0}, 1, 0),
           (unsigned)fcntl(signals_fd, F_GETFD));
    printf("epoll %d", epoll_wait(outer, &event, 1, 0));
    printf(" data %lu;", (unsigned long)event.data.u64);
    printf(" %d", poll(&(struct pollfd){counter_fd, POLLIN, 0}, 1, 0));
    printf(" pidfd %d %d\n", own_pidfd >= 0,
           (int)syscall(SYS_pidfd_send_signal, own_pidfd, 0, 0, 0));
    printf("end\n");
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
    make_files();
    make_events();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    return 0;
}
