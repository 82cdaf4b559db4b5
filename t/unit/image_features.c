/*
 * image_features.c - what is asked of the kernel: the answer is of one piece, and asking leaves
 * nothing behind.
 */
#include "t/lib/tap.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/kernel_features.h"
#include "core/base/status.h"

static int open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int mapping_count(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int lines = 0, c = 0;

    while ((c = fgetc(maps)) != EOF)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

static void a_feature_is_there_or_its_error_is(void)
{
    struct kernel_features features;

    memset(&features, 0xff, sizeof features);
    kernel_features_probe(&features);
    tap_note("userfaultfd: %s; PAGEMAP_SCAN: %s, its short cut: %s",
             status_text(features.userfaultfd_error), status_text(features.pagemap_scan_error),
             features.pagemap_quick ? "as expected" : "no");
    CHECK_EQ(features.userfaultfd_wp_async, features.userfaultfd_error == 0);
    CHECK_EQ(features.pagemap_scan, features.pagemap_scan_error == 0);
    CHECK(!features.pagemap_quick || (features.userfaultfd_wp_async && features.pagemap_scan));
    CHECK(features.userfaultfd_error <= 0);
    CHECK(features.pagemap_scan_error <= 0);
}

static void asking_leaves_nothing_behind(void)
{
    struct kernel_features features;
    int files = open_files(), mappings = mapping_count();

    for (int i = 0; i < 10; i++)
        kernel_features_probe(&features);
    CHECK_EQ(open_files(), files);
    CHECK(mapping_count() <= mappings + 1); /* stdio's buffer, once */
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_feature_is_there_or_its_error_is);
    RUN(asking_leaves_nothing_behind);
    return tap_done();
}
