/*
 * replay.c - the main of a fuzz target without a fuzzer: every file that is named, and every file
 * of a directory that is named, is an input. TAP; an input that ends the process, or takes longer
 * than two seconds, is the last one named.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "t/fuzz/target.h"

#define HANG_NS 2000000000ull

static unsigned tried, slow;

/* In CPU time: the machine may be busy. */
static void replay_file(const char *path, const struct stat *info)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc((size_t)info->st_size + 1);
    uint64_t began_ns;
    size_t size;

    if (!file || !bytes) {
        perror(path);
        exit(1);
    }
    size = fread(bytes, 1, (size_t)info->st_size, file);
    fclose(file);
    printf("# %s\n", path);
    fflush(stdout);
    began_ns = sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    (void)LLVMFuzzerTestOneInput(bytes, size);
    if (sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - began_ns > HANG_NS) {
        printf("# %s: it took longer than two seconds\n", path);
        slow++;
    }
    free(bytes);
    tried++;
}

static void replay(const char *path)
{
    struct stat info;
    DIR *directory;
    char name[4096];

    if (stat(path, &info) < 0) {
        perror(path);
        exit(1);
    }
    if (!S_ISDIR(info.st_mode)) {
        replay_file(path, &info);
        return;
    }
    directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            replay(name);
        }
    if (directory)
        closedir(directory);
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    char corpus[4096];

    snprintf(corpus, sizeof corpus, "t/fuzz/corpus/%s", name);
    if (argc == 1)
        replay(corpus);
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%s 1 - %u inputs of %s pass\n1..1\n", slow == 0 && tried > 0 ? "ok" : "not ok", tried,
           name);
    return slow > 0 || tried == 0;
}
