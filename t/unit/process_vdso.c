/*
 * process_vdso.c - the kernel's vdso, copied as if it were an old one, calls the one that is there.
 */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/process/vdso.h"
#include "t/lib/tap.h"

static const uint8_t *vdso;
static size_t vdso_bytes;
static uint8_t *old_text, *new_text; /* copies */

/* Room for a copy; whoever reads or writes behind its end dies of it. */
static uint8_t *copy_before_guard(void)
{
    uint8_t *room = mmap(NULL, vdso_bytes + PAGE_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return room != MAP_FAILED && mprotect(room + vdso_bytes, PAGE_BYTES, PROT_NONE) == 0 ? room
                                                                                         : NULL;
}

/* As far as its section headers, in whole pages. */
static bool find_vdso(void)
{
    const Elf64_Ehdr *header;

    vdso = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    if (!vdso)
        return false;
    header = (const Elf64_Ehdr *)(const void *)vdso;
    vdso_bytes = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    vdso_bytes = (vdso_bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    if (vdso_bytes > VDSO_BYTES_MAX)
        return false;
    old_text = copy_before_guard();
    new_text = copy_before_guard();
    return old_text && new_text;
}

static void copy_both(void)
{
    mprotect(old_text, vdso_bytes, PROT_READ | PROT_WRITE);
    memcpy(old_text, vdso, vdso_bytes);
    memcpy(new_text, vdso, vdso_bytes);
}

static int redirect(void)
{
    return vdso_redirect(old_text, vdso_bytes, new_text, vdso_bytes, (uint64_t)(uintptr_t)vdso);
}

/* Where a function of the old text is. */
static uintptr_t old_function(const char *name)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)vdso;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(vdso + header->e_shoff);

    for (unsigned i = 0; i < header->e_shnum; i++) {
        const Elf64_Sym *symbols = (const Elf64_Sym *)(const void *)(vdso + sections[i].sh_offset);

        for (uint64_t n = 0;
             sections[i].sh_type == SHT_DYNSYM && n < sections[i].sh_size / sizeof *symbols; n++)
            if (strcmp((const char *)vdso + sections[sections[i].sh_link].sh_offset +
                           symbols[n].st_name,
                       name) == 0)
                return (uintptr_t)old_text + symbols[n].st_value;
    }
    return 0;
}

typedef int clock_function(clockid_t, struct timespec *);
typedef int cpu_function(unsigned *, unsigned *, void *);
typedef time_t time_function(time_t *);

static void check_functions(void)
{
    clock_function *get_time = (clock_function *)old_function("__vdso_clock_gettime");
    clock_function *get_resolution = (clock_function *)old_function("__vdso_clock_getres");
    cpu_function *get_cpu = (cpu_function *)old_function("__vdso_getcpu");
    time_function *get_seconds = (time_function *)old_function("__vdso_time");
    struct timespec before, found, after;
    unsigned cpu = 100000, node;

    mprotect(old_text, vdso_bytes, PROT_READ | PROT_EXEC);
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_EQ(get_time(CLOCK_MONOTONIC, &found), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(found.tv_sec > before.tv_sec ||
          (found.tv_sec == before.tv_sec && found.tv_nsec >= before.tv_nsec));
    CHECK(found.tv_sec < after.tv_sec ||
          (found.tv_sec == after.tv_sec && found.tv_nsec <= after.tv_nsec));
    CHECK_EQ(get_time(12345, &found), -22);
    CHECK(get_seconds(NULL) >= time(NULL) - 1);
    CHECK_EQ(get_cpu(&cpu, &node, NULL), 0);
    CHECK(cpu < 100000);
    if (get_resolution)
        CHECK_EQ(get_resolution(CLOCK_MONOTONIC, &found), 0);
}

static void old_functions_call_the_new_ones(void)
{
    copy_both();
    CHECK_EQ(redirect(), 0);
    check_functions();
}

/* All names in the new one are others. */
static void old_functions_without_new_ones_call_the_kernel(void)
{
    copy_both();
    for (size_t i = 0; i + 7 < vdso_bytes; i++)
        if (memcmp(new_text + i, "__vdso_", 7) == 0)
            memcpy(new_text + i, "__else_", 7);
    CHECK_EQ(redirect(), 0);
    check_functions();
}

static void random_bytes_come_from_the_kernel(void)
{
    typedef ssize_t random_function(void *, size_t, unsigned, void *, size_t);
    random_function *get_random;
    uint8_t bytes[16] = {0}, none[16] = {0};

    copy_both();
    CHECK_EQ(redirect(), 0);
    get_random = (random_function *)old_function("__vdso_getrandom");
    if (!get_random)
        return;
    mprotect(old_text, vdso_bytes, PROT_READ | PROT_EXEC);
    CHECK_EQ(get_random(bytes, sizeof bytes, 0, NULL, 0), 16);
    CHECK(memcmp(bytes, none, sizeof bytes) != 0);
    CHECK_EQ(get_random(NULL, 0, 0, bytes, (size_t)-1), -38);
}

static void a_function_that_nobody_knows_is_refused(void)
{
    copy_both();
    for (int copy = 0; copy < 2; copy++)
        for (size_t i = 0; i + 13 < vdso_bytes; i++)
            if (memcmp(old_text + i, "__vdso_getcpu", 13) == 0)
                memcpy(old_text + i, "__vdso_gotcpu", 13);
    CHECK_EQ(redirect(), STATUS_UNSUPPORTED);
}

static void what_is_no_vdso_is_damaged(void)
{
    copy_both();
    CHECK_EQ(vdso_redirect(old_text, 10, new_text, vdso_bytes, 0), STATUS_DAMAGED);
    CHECK_EQ(vdso_redirect(old_text, vdso_bytes, new_text, 64, 0), STATUS_DAMAGED);
    memset(old_text, 0, vdso_bytes);
    CHECK_EQ(redirect(), STATUS_DAMAGED);
}

/* Nothing is read or written beyond the copies. */
static void flipped_bits_do_no_harm(void)
{
    for (size_t bit = 0; bit < vdso_bytes * 8; bit += 5) {
        copy_both();
        old_text[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)redirect();
        copy_both();
        new_text[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)redirect();
    }
    CHECK(true);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (!find_vdso())
        return 1;
    RUN(old_functions_call_the_new_ones);
    RUN(old_functions_without_new_ones_call_the_kernel);
    RUN(random_bytes_come_from_the_kernel);
    RUN(a_function_that_nobody_knows_is_refused);
    RUN(what_is_no_vdso_is_damaged);
    RUN(flipped_bits_do_no_harm);
    return tap_done();
}
