/*
 * terminal_state.c - sets its terminal to settings of its own and prints, for each key, what it
 * sees of it: the same each time. Counts SIGWINCH. "q": sets the terminal back and ends.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t resized;

static void on_resize(int number)
{
    (void)number;
    resized++;
}

static void report(char key)
{
    struct termios now;
    struct winsize size;

    tcgetattr(0, &now);
    ioctl(0, TIOCGWINSZ, &size);
    printf(
        "key %c: iflag %x oflag %x cflag %x lflag %x min %d time %d intr %d speed %u; foreground "
        "%d; in %d\r\n",
        key, now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag, now.c_cc[VMIN], now.c_cc[VTIME],
        now.c_cc[VINTR], cfgetospeed(&now), tcgetpgrp(0) == getpgrp(), isatty(0));
    printf("size %u x %u, told %d times.\r\n", size.ws_row, size.ws_col, (int)resized);
    fflush(stdout);
}

int main(void)
{
    struct termios before, now;
    char key = 0;

    signal(SIGWINCH, on_resize);
    tcgetattr(0, &before);
    now = before;
    now.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    now.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
    now.c_cc[VMIN] = 1;
    now.c_cc[VTIME] = 3;
    now.c_cc[VINTR] = 7; /* Ctrl-G */
    tcsetattr(0, TCSANOW, &now);
    printf("set\r\n");
    fflush(stdout);
    while (key != 'q') {
        if (read(0, &key, 1) == 1)
            report(key);
    }
    tcsetattr(0, TCSANOW, &before);
    return 0;
}
