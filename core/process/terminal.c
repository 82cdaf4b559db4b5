/*
 * terminal.c - record_terminal: the settings of the terminal that the program runs on (termios) and
 * its size.
 *
 * A program is restored on the terminal of its restorer, which may be another one. It gets the
 * settings that the program had made (raw, no echo), if the restorer may change them: a job in the
 * background leaves the terminal alone. Its size is its own: a program that handles SIGWINCH is
 * told, and draws anew what the screen does not show any more.
 *
 * Always true: what happens to the terminal happens before the program goes on, with all signals
 * blocked, so that nothing stops it.
 */
#include <signal.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/process/descriptors.h"
#include "core/process/process_image_reading.h"

/* The kernel's names for these clash with glibc's. */
#define GET_SETTINGS   0x802c542aul /* TCGETS2 */
#define SET_SETTINGS   0x402c542bul /* TCSETS2 */
#define GET_SIZE       0x5413ul     /* TIOCGWINSZ */
#define GET_FOREGROUND 0x540ful     /* TIOCGPGRP */

int capture_terminal(struct descriptor_run *run, const struct open_description *description)
{
    struct record_terminal record = {0};
    int fd;
    long status;

    if (run->has_terminal)
        return 0;
    fd = descriptor_borrow(run->run, description->number);
    if (fd < 0)
        return fd;
    status = sys_call(SYS_ioctl, fd, GET_SETTINGS, record.settings);
    if (status == 0)
        status = sys_call(SYS_ioctl, fd, GET_SIZE, record.size);
    (void)sys_close(fd);
    if (status == 0) /* else one that has hung up, or is open as a path */
        record_put(run->run->out, RECORD_TERMINAL, &record, sizeof record, NULL, 0);
    run->has_terminal = status == 0;
    return 0;
}

int read_terminal(struct reading *reading)
{
    const struct record_terminal *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || reading->image->terminal != NULL)
        return damaged(reading, "impossible terminal");
    reading->image->terminal = record;
    return 0;
}

int terminal_of_restorer(void)
{
    char settings[sizeof((struct record_terminal *)0)->settings];
    int group = 0;

    for (int fd = 0; fd < 3; fd++)
        if (sys_call(SYS_ioctl, fd, GET_SETTINGS, settings) == 0)
            return sys_call(SYS_ioctl, fd, GET_FOREGROUND, &group) == 0 &&
                           group == (int)sys_call(SYS_getpgid, 0)
                       ? fd
                       : -1;
    return -1;
}

void rebuild_terminal(struct rebuild *rebuild)
{
    const struct record_terminal *record = rebuild->image->terminal;
    const struct record_signal_action *action = &rebuild->image->signals->actions[SIGWINCH - 1];
    struct batch *batch = rebuild->batch;
    int fd = rebuild->terminal >= 0 ? rebuild->stdio_fd[rebuild->terminal] : -1;

    if (record == NULL || fd < 0)
        return;
    batch_add(batch, "settings of the terminal", SYS_ioctl,
              BATCH_ARGS((uint64_t)fd, SET_SETTINGS,
                         batch_data(batch, record->settings, sizeof record->settings)));
    batch_may_fail(batch); /* hung up meanwhile */
    if (action->handler != (uintptr_t)SIG_DFL && action->handler != (uintptr_t)SIG_IGN)
        batch_add(batch, "SIGWINCH", SYS_kill,
                  BATCH_ARGS((uint64_t)rebuild->image->process->pid, SIGWINCH));
}
