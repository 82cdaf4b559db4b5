/*
 * clocks.c - CLOCK_MONOTONIC and CLOCK_BOOTTIME begin anew when a machine boots, and no program is
 * ready for them to run backwards: where they are behind those of the checkpoint, the program is
 * restored in a time namespace, in which they go on from there, the time that it was down included.
 *
 * Always true: a namespace holds for processes that are begun later, so this comes before the
 * process is spawned; clocks that are ahead are left as they are.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/proc_text.h"
#include "recovery/restore/job.h"

#define NS_PER_S     1000000000ull
#define OFFSETS_PATH "/proc/self/timens_offsets"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* What a clock ought to show by now. */
static uint64_t expected_ns(const struct process_image *image, uint64_t saved_ns)
{
    uint64_t now_ns = sys_clock_ns(CLOCK_REALTIME), then_ns = image->process->realtime_ns;

    return saved_ns + (now_ns > then_ns ? now_ns - then_ns : 0);
}

static uint64_t saved_boottime_ns(const struct process_image *image)
{
    return image->clocks != NULL ? image->clocks->boottime_ns : image->process->monotonic_ns;
}

bool clocks_are_behind(const struct process_image *image)
{
    return sys_clock_ns(CLOCK_MONOTONIC) < image->process->monotonic_ns ||
           sys_clock_ns(CLOCK_BOOTTIME) < saved_boottime_ns(image);
}

/* "monotonic           0         0": as the namespace has inherited it. */
static uint64_t offset_before_ns(const char *text, const char *clock)
{
    const char *at = strstr(text, clock);
    uint64_t seconds;

    if (at == NULL)
        return 0;
    at += strlen(clock);
    while (*at == ' ' || *at == '\t')
        at++;
    seconds = text_number(&at, 10);
    while (*at == ' ' || *at == '\t')
        at++;
    return seconds * NS_PER_S + text_number(&at, 10);
}

static size_t add_offset(char *line, size_t size, const char *before, const char *clock, int id,
                         uint64_t wanted_ns)
{
    uint64_t now_ns = sys_clock_ns(id), offset_ns = offset_before_ns(before, clock);

    if (wanted_ns > now_ns)
        offset_ns += wanted_ns - now_ns;
    return format_text(line, size, "%s %lu %lu\n", clock, (unsigned long)(offset_ns / NS_PER_S),
                       (unsigned long)(offset_ns % NS_PER_S));
}

int clocks_shift(const struct process_image *image)
{
    char before[256], text[160];
    long status = sys_call(SYS_unshare, CLONE_NEWTIME);
    size_t length;
    int fd;

    if (status == 0)
        status = sys_read_file(OFFSETS_PATH, before, sizeof before);
    if (status < 0)
        return (int)status;
    length = add_offset(text, sizeof text, before, "monotonic", CLOCK_MONOTONIC,
                        expected_ns(image, image->process->monotonic_ns));
    length += add_offset(text + length, sizeof text - length, before, "boottime", CLOCK_BOOTTIME,
                         expected_ns(image, saved_boottime_ns(image)));
    fd = sys_open(OFFSETS_PATH, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    status = sys_write(fd, text, length);
    (void)sys_close(fd);
    return status < 0 ? (int)status : 0;
}

void clocks_say_behind(const struct process_image *image, int status)
{
    uint64_t saved_ns = image->process->monotonic_ns, now_ns = sys_clock_ns(CLOCK_MONOTONIC);
    char line[320];
    size_t length = format_text(
        line, sizeof line,
        "pheap restore: the machine's clock since boot is %lu s behind the checkpoint's, and a "
        "time "
        "namespace is not permitted here (%s): timeouts that the program has computed may take "
        "that much longer; restore as root, or allow user namespaces\n",
        (unsigned long)((saved_ns > now_ns ? saved_ns - now_ns : 0) / NS_PER_S),
        status_text(status));

    (void)sys_write(2, line, length);
}
