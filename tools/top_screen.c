/*
 * top_screen.c - see top.h: lines on a terminal, with ncurses.
 *
 * True always: however this ends, by a key, a signal that can be caught or the terminal's end, the
 * terminal is as it was. Signals that end us are let in only while we wait, so that none comes in
 * the middle of drawing.
 */
#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "tools/top.h"

static volatile sig_atomic_t ending; /* the signal */

static void note_end(int number)
{
    ending = number;
}

static void note_resize(int number)
{
    (void)number; /* what we wait in is interrupted; the size is looked at each time */
}

/* Before newterm(), which leaves signals alone that have a handler. *outside: the mask to wait
 * with.
 */
static void set_signals(sigset_t *outside)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction end = {.sa_handler = note_end}, resize = {.sa_handler = note_resize};
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        sigaction(ends[i], &end, NULL);
        sigaddset(&held, ends[i]);
    }
    sigaction(SIGWINCH, &resize, NULL);
    sigaddset(&held, SIGWINCH);
    sigprocmask(SIG_BLOCK, &held, outside);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        sigdelset(outside, ends[i]);
    sigdelset(outside, SIGWINCH);
}

/* --- drawing --- */

static bool in_colour;

static void start_colours(void)
{
    in_colour = !getenv("NO_COLOR") && has_colors();
    if (!in_colour)
        return;
    start_color();
    use_default_colors();
    init_pair(TOP_WARNING, COLOR_RED, -1);
    init_pair(TOP_GROWS, COLOR_YELLOW, -1);
    init_pair(TOP_SHRINKS, COLOR_GREEN, -1);
}

static attr_t style_attributes(enum top_style style)
{
    switch (style) {
    case TOP_TITLE:
        return A_REVERSE;
    case TOP_HEADING:
        return A_BOLD;
    case TOP_WARNING:
        return A_BOLD | (in_colour ? COLOR_PAIR(style) : 0);
    case TOP_GROWS:
        return in_colour ? COLOR_PAIR(style) : A_BOLD;
    case TOP_SHRINKS:
        return in_colour ? COLOR_PAIR(style) : A_NORMAL;
    default:
        return A_NORMAL;
    }
}

static void draw_line(int row, const struct top_line *line)
{
    attrset(style_attributes(line->style));
    mvaddnstr(row, 0, line->text, -1);
    attrset(A_NORMAL);
}

static void draw_help(void)
{
    for (int i = 0; top_keys[i] && i < LINES; i++)
        mvaddnstr(i, 0, top_keys[i], COLS);
}

static void draw(const struct top_figures *figures, struct top_layout *layout, bool helps)
{
    static struct top_line lines[TOP_LINES_MAX];
    uint32_t most_first;
    int count;

    layout->columns = COLS;
    layout->rows = LINES;
    erase();
    count = top_lines(figures, layout, lines, &most_first);
    if (layout->first_class > most_first) {
        layout->first_class = most_first;
        count = top_lines(figures, layout, lines, &most_first);
    }
    if (helps)
        draw_help();
    else
        for (int i = 0; i < count; i++)
            draw_line(i, &lines[i]);
    refresh();
}

static void follow_size(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0 ||
        (size.ws_row == LINES && size.ws_col == COLS))
        return;
    resizeterm(size.ws_row, size.ws_col);
    clearok(curscr, TRUE); /* what the terminal made of its old content is not known */
}

/* --- keys --- */

struct keys {
    bool quits, helps;
};

static void change_interval(struct top_layout *layout, bool faster)
{
    uint64_t ns = faster ? layout->interval_ns / 2 : layout->interval_ns * 2;

    if (ns >= TOP_INTERVAL_MIN_NS && ns <= TOP_INTERVAL_MAX_NS)
        layout->interval_ns = ns;
}

static void take_key(int key, struct top_watch *watch, struct top_layout *layout, struct keys *keys)
{
    bool helped = keys->helps;

    keys->helps = false;
    switch (key) {
    case 'q':
        keys->quits = !helped; /* of the help first */
        break;
    case 'p':
    case ' ':
        layout->is_paused = !layout->is_paused;
        break;
    case 's':
        layout->sort = (layout->sort + 1) % TOP_SORTS;
        break;
    case 'r':
        top_begin_anew(watch);
        break;
    case '+':
    case '-':
        change_interval(layout, key == '+');
        break;
    case KEY_DOWN:
        layout->first_class++;
        break;
    case KEY_UP:
        layout->first_class -= layout->first_class > 0;
        break;
    case 'h':
    case '?':
        keys->helps = !helped;
        break;
    default:
        keys->helps = helped;
    }
}

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Until a key, a signal, or `until`. False: the terminal has gone. */
static bool wait_for_key(uint64_t until, const sigset_t *outside)
{
    struct pollfd terminal = {STDIN_FILENO, POLLIN, 0};
    uint64_t now = now_ns(), left = until > now ? until - now : 0;
    const struct timespec time = {(time_t)(left / 1000000000), (long)(left % 1000000000)};

    if (ppoll(&terminal, 1, &time, outside) <= 0)
        return true;
    return !(terminal.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void watch_it(struct top_watch *watch, struct top_layout *layout, const sigset_t *outside)
{
    const struct top_figures *figures = top_look(watch);
    uint64_t next = now_ns() + layout->interval_ns;
    struct keys keys = {0};
    int key;

    while (!ending && !keys.quits) {
        follow_size();
        draw(figures, layout, keys.helps);
        if (!wait_for_key(next, outside))
            break;
        while ((key = getch()) != ERR)
            take_key(key, watch, layout, &keys);
        if (now_ns() < next)
            continue;
        if (!layout->is_paused)
            figures = top_look(watch);
        next = now_ns() + layout->interval_ns;
    }
}

int top_screen(struct top_watch *watch, struct top_layout *layout, struct problem *why)
{
    const char *name = getenv("TERM");
    sigset_t outside;
    SCREEN *screen;

    setlocale(LC_CTYPE, "");
    set_signals(&outside);
    screen = newterm(NULL, stdout, stdin);
    if (!screen)
        return problem_set(why, STATUS_UNSUPPORTED,
                           "the terminal (TERM=%s) is not known; try --once", name ? name : "");
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    curs_set(0);
    ESCDELAY = 25;
    start_colours();
    watch_it(watch, layout, &outside);
    endwin();
    delscreen(screen);
    return 0;
}
