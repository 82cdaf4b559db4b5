/*
 * main.c - finds the command in argv[1], or in argv[0] when called as pheap-NAME, and runs it.
 *
 * True always: no command runs with libpheap preloaded into itself. A shell with LD_PRELOAD and
 * PHEAP_POOL exported starts the tools too; libpheap sees pheap_is_tool and leaves the pool alone,
 * and the tool starts itself again without the preload.
 */
#include "tools/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/nearest.h"
#include "tools/preload_env.h"

/* Exported to the dynamic linker; preload/ looks for it (a weak symbol there). */
__attribute__((visibility("default"))) const int pheap_is_tool = 1;

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", command_run, "start a program with its heap in a pool, or resume it"},
    {"checkpoint", command_checkpoint, "take a checkpoint now and wait until it is durable"},
    {"restore", command_restore, "resume a killed program from its newest checkpoint"},
    {"inspect", command_inspect, "show what a pool holds"},
    {"recover", command_recover, "check a pool, repair it, copy it; keep and drop generations"},
    {"doctor", command_doctor, "say what this machine and a program allow, and what to change"},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

void print_version(void)
{
    printf("pheap %s\n", PHEAP_VERSION);
}

static int help(void)
{
    printf("usage: pheap COMMAND [OPTION...] [ARGUMENT...]\n\n"
           "A heap that outlives its process: a program started by pheap run is checkpointed into\n"
           "a pool file and goes on from its last checkpoint after a crash or a kill.\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    printf("\npheap help COMMAND, or pheap COMMAND --help, says more; every command is also "
           "pheap-COMMAND.\n"
           "Exit status: the program's own where one runs; 0 fine, 1 found something, 2 usage,\n"
           "3 refused, 4 damaged pool, 5 system error.\n");
    return EXIT_FINE;
}

static int unknown_command(const char *name)
{
    char hint[NEAREST_HINT_BYTES];

    return report("", EXIT_USAGE, "no command '%.64s'%s; pheap --help lists all", name,
                  nearest_hint(hint, "", name, commands, sizeof commands[0], COMMAND_COUNT));
}

static const struct command *command_named(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int dispatch(int argc, char **argv)
{
    const char *called = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    const struct command *command;

    if (strncmp(called, "pheap-", 6) == 0 && (command = command_named(called + 6)))
        return command->run(argc, argv);
    if (argc < 2) {
        help();
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2) /* of one command */
        return (command = command_named(argv[2]))
                   ? command->run(2, (char *[]){argv[2], "--help", 0})
                   : unknown_command(argv[2]);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return help();
    if (strcmp(argv[1], "--version") == 0) {
        print_version();
        return EXIT_FINE;
    }
    command = command_named(argv[1]);
    return command ? command->run(argc - 1, argv + 1) : unknown_command(argv[1]);
}

static void (*file_size_action)(int);

/* A limit on the size of files is an error of the write, which is reported, and not our end. */
static void take_signals(void)
{
    file_size_action = signal(SIGXFSZ, SIG_IGN);
}

void give_back_signals(void)
{
    signal(SIGXFSZ, file_size_action);
}

int main(int argc, char **argv)
{
    int status;

    if (argc < 1)
        return EXIT_USAGE;
    if (preload_env_drop())
        execv("/proc/self/exe", argv);
    take_signals();
    status = dispatch(argc, argv);
    /* Output that did not reach its file is an error too. */
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout))
        return report("", EXIT_SYSTEM, "cannot write to standard output%s%s", errno ? ": " : "",
                      errno ? strerror(errno) : "");
    return status;
}
