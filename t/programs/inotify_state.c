/*
 * inotify_state.c - watches files in the working directory and, at each SIGUSR1, prints what it
 * watches and which events it gets for what it does itself: the same each time. SIGUSR2: ends.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static int notify_fd;

static int must(int status, const char *what)
{
    if (status < 0) {
        perror(what);
        exit(99);
    }
    return status;
}

static void touch(const char *path)
{
    close(must(open(path, O_WRONLY | O_CREAT | O_APPEND, 0600), path));
}

static int watch(const char *path, unsigned mask)
{
    return must(inotify_add_watch(notify_fd, path, mask), path);
}

static void make_watches(void)
{
    char ignored[4096];

    must(notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify");
    must(mkdir("folder", 0700), "folder");
    touch("folder/file");
    touch("other");
    for (int i = 0; i < 5; i++) /* numbers that are given out no more */
        inotify_rm_watch(notify_fd, watch("/", IN_CREATE));
    watch("folder", IN_CREATE | IN_DELETE);
    inotify_rm_watch(notify_fd, watch("/", IN_CREATE));
    watch("other", IN_CLOSE_WRITE | IN_EXCL_UNLINK);
    watch(".", IN_MOVED_TO);
    (void)must((int)read(notify_fd, ignored, sizeof ignored), "IN_IGNORED");
    must(open("folder/file", O_RDONLY), "folder/file"); /* what is open is found anywhere */
    watch("folder/file", IN_ALL_EVENTS);
}

static void print_events(void)
{
    char buffer[4096] __attribute__((aligned(8)));
    ssize_t got;

    while ((got = read(notify_fd, buffer, sizeof buffer)) > 0)
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *event = (const void *)(buffer + at);

            printf("event of %d: %x %s\n", event->wd, event->mask, event->len ? event->name : "");
            at += (ssize_t)sizeof *event + event->len;
        }
}

static void print_watches(void)
{
    char path[64], line[512];
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", notify_fd);
    file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "inotify", 7) == 0)
            printf("%.*s\n", (int)(strstr(line, " ignored") - line), line);
    if (file != NULL)
        fclose(file);
}

static void report(void)
{
    printf("flags %x %x\n", (unsigned)fcntl(notify_fd, F_GETFL),
           (unsigned)fcntl(notify_fd, F_GETFD));
    print_watches();
    print_events();
    touch("folder/new");
    unlink("folder/new");
    touch("other");
    touch("folder/file");
    touch("a");
    rename("a", "b");
    print_events();
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
    make_watches();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    return 0;
}
