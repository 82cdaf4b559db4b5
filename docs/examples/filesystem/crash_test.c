/*
 * crash_test.c - operations on the tree by number, so that what a killed run has left can be
 * compared with an undisturbed one.
 *
 *     crash_test run POOL SEED FROM        operations FROM, FROM + 1, ... for ever, a line each
 *     crash_test apply POOL SEED FROM TO   operations FROM to TO - 1
 *     crash_test dump POOL                 the tree, a line a file, sorted: all but times
 *
 * Killed after line n, `dump` of the pool must equal that of another one to which 0 to n, or to n +
 * 1, were applied: each operation is there as a whole or not at all.
 *
 *     cc crash_test.c files.c $(pkg-config --cflags --libs pheap) -o crash_test
 */
#include "files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAMES     8u
#define LEVELS    3u
#define DATA_MOST 20000u

struct operation {
    uint64_t state;
};

static uint64_t draw(struct operation *operation, uint64_t below)
{
    operation->state = operation->state * 6364136223846793005u + 1442695040888963407u;
    return (operation->state >> 33) % below;
}

static void draw_path(struct operation *operation, char path[64])
{
    uint64_t levels = 1 + draw(operation, LEVELS);

    *path = 0;
    for (uint64_t i = 0; i < levels; i++)
        sprintf(path + strlen(path), "/%c%llu", (char)('a' + (char)i),
                (unsigned long long)draw(operation, NAMES));
}

static void write_something(struct files *files, struct operation *operation, struct inode *inode)
{
    static char bytes[DATA_MOST];
    size_t count = 1 + draw(operation, DATA_MOST);
    uint64_t at = draw(operation, 8) ? draw(operation, 50000) : draw(operation, 1u << 30);

    for (size_t i = 0; i < count; i++)
        bytes[i] = (char)draw(operation, 256);
    (void)files_write(files, inode, bytes, count, at);
}

static void change_file(struct files *files, struct operation *operation, const char *path)
{
    struct inode *inode;

    if (files_find(files, path, &inode) < 0 || !S_ISREG(inode->mode))
        return;
    switch (draw(operation, 4)) {
    case 0:
        (void)files_truncate(files, inode, draw(operation, 60000));
        break;
    case 1:
        (void)files_punch(files, inode, draw(operation, 50000), draw(operation, 30000));
        break;
    default:
        write_something(files, operation, inode);
    }
}

/* What cannot be done, because of what is there, is not done in either pool. */
static void apply(struct files *files, uint64_t seed, uint64_t number)
{
    struct operation operation = {seed ^ number * 0x9e3779b97f4a7c15u};
    char path[64], other[64];
    struct inode *inode;

    for (int i = 0; i < 4; i++)
        (void)draw(&operation, 2);
    draw_path(&operation, path);
    draw_path(&operation, other);
    switch (draw(&operation, 12)) {
    case 0:
    case 1:
        (void)files_make(files, path, S_IFDIR | 0755, NULL);
        break;
    case 2:
        (void)files_make(files, path, S_IFREG | 0644, NULL);
        break;
    case 3:
        (void)files_make(files, path, S_IFLNK | 0777, other);
        break;
    case 4:
        (void)files_link(files, path, other);
        break;
    case 5:
        (void)files_remove(files, path, draw(&operation, 2));
        break;
    case 6:
    case 7:
        (void)files_rename(files, path, other, (unsigned)draw(&operation, 3));
        break;
    case 8:
        if (files_find(files, path, &inode) == 0)
            (void)files_set_mode(files, inode, (mode_t)draw(&operation, 01000));
        break;
    default:
        change_file(files, &operation, path);
    }
}

/* --- dump --- */

static uint64_t content_hash(const struct inode *inode)
{
    static char bytes[1 << 20];
    uint64_t hash = 0xcbf29ce484222325, at = 0;
    ssize_t got;

    if (S_ISLNK(inode->mode))
        at = inode->size, memcpy(bytes, inode->target, at);
    for (uint64_t i = 0; i < at; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    if (!S_ISREG(inode->mode))
        return hash;
    while ((got = files_read(inode, bytes, sizeof bytes, at)) > 0) {
        bool zeroes = bytes[0] == 0 && memcmp(bytes, bytes + 1, (size_t)got - 1) == 0;

        for (ssize_t i = 0; !zeroes && i < got; i++)
            hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
        hash = (hash ^ (uint64_t)got) * 0x100000001b3;
        at += (uint64_t)got;
    }
    return hash;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct entry *const *)a)->name, (*(const struct entry *const *)b)->name);
}

static void dump(const struct inode *inode, const char *path)
{
    const struct entry **entries;
    uint64_t bucket = 0, count = 0;
    char below[512];

    printf("%s %o %u %llu %llu %016llx\n", path, inode->mode, inode->links,
           (unsigned long long)inode->size,
           S_ISREG(inode->mode) ? (unsigned long long)inode->content->block_count : 0,
           (unsigned long long)content_hash(inode));
    if (!S_ISDIR(inode->mode))
        return;
    entries = calloc(inode->directory->count + 1, sizeof *entries);
    for (const struct entry *entry = files_next(inode->directory, &bucket, NULL); entries && entry;
         entry = files_next(inode->directory, &bucket, entry))
        entries[count++] = entry;
    qsort(entries, count, sizeof *entries, compare_names);
    for (uint64_t i = 0; i < count; i++) {
        snprintf(below, sizeof below, "%s/%s", path, entries[i]->name);
        dump(entries[i]->inode, below);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    struct files files = {0};
    char problem[512] = "";
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    uint64_t from = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    uint64_t to = argc > 5 ? strtoull(argv[5], NULL, 10) : UINT64_MAX;
    const char *verb = argc > 2 ? argv[1] : "";

    if (!(strcmp(verb, "dump") == 0 && argc == 3) && !(strcmp(verb, "run") == 0 && argc == 5) &&
        !(strcmp(verb, "apply") == 0 && argc == 6)) {
        fprintf(stderr, "usage: crash_test dump POOL\n"
                        "       crash_test run POOL SEED FROM\n"
                        "       crash_test apply POOL SEED FROM TO\n");
        return 2;
    }
    if (files_open(&files, argv[2], problem, sizeof problem) < 0) {
        fprintf(stderr, "crash_test: %s\n", problem);
        return 1;
    }
    if (strcmp(argv[1], "dump") == 0)
        dump(files.tree->root, "");
    else
        for (uint64_t number = from; number < to; number++) {
            apply(&files, seed, number);
            if (strcmp(argv[1], "run") == 0) {
                printf("%llu\n", (unsigned long long)number);
                fflush(stdout);
            }
        }
    return files_close(&files) < 0;
}
