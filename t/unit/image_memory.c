/*
 * image_memory.c - pages are read as they are, and what is not there is said to be unread: by
 * system calls, and in place, where a fault ends the copy of one page and of no other.
 */
#include "t/lib/tap.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/image/memory.h"

#define PAGES      24
#define UNMAPPED   3
#define FORBIDDEN  5
#define CUT_OFF    9 /* of a file that is shorter than its mapping */
#define CUT_OFF_TO 12

static struct memory memory;
static uint8_t out[PAGES * PAGE_BYTES];
static volatile sig_atomic_t faults;

static void on_fault(int signal_number)
{
    (void)signal_number;
    faults++;
    memory_fault();
    _exit(1);
}

static void handle_faults(void (*handler)(int))
{
    struct sigaction action = {.sa_flags = SA_NODEFER};

    action.sa_handler = handler;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* Page i is full of i + 1, but for those that cannot be read. */
static uint8_t *make_pages(void)
{
    uint8_t *pages =
        mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int empty = memfd_create("empty", MFD_CLOEXEC);

    CHECK(pages != MAP_FAILED && empty >= 0);
    for (int i = 0; i < PAGES; i++)
        memset(pages + i * PAGE_BYTES, i + 1, PAGE_BYTES);
    CHECK_OK(munmap(pages + UNMAPPED * PAGE_BYTES, PAGE_BYTES));
    CHECK_OK(mprotect(pages + FORBIDDEN * PAGE_BYTES, PAGE_BYTES, PROT_NONE));
    CHECK(mmap(pages + CUT_OFF * PAGE_BYTES, (CUT_OFF_TO - CUT_OFF) * PAGE_BYTES, PROT_READ,
               MAP_PRIVATE | MAP_FIXED, empty, 0) != MAP_FAILED);
    close(empty);
    return pages;
}

static bool is_unreadable(int i)
{
    return i == UNMAPPED || (i >= CUT_OFF && i < CUT_OFF_TO);
}

static bool is_full_of(const uint8_t *page, int value)
{
    return page[0] == value && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

/* Reads all pages with the flags that flags_of() has for each. */
static void read_all(uint64_t (*flags_of)(int page))
{
    uint8_t *pages = make_pages();
    uint64_t names[PAGES];

    for (int i = 0; i < PAGES; i++)
        names[i] = ((uintptr_t)pages >> PAGE_SHIFT) + (uint64_t)i;
    for (int i = 0; i < PAGES; i++)
        names[i] |= flags_of(i);
    memset(out, 0xee, sizeof out);
    CHECK_EQ(memory_read(&memory, names, PAGES, out), 1 + CUT_OFF_TO - CUT_OFF);
    for (int i = 0; i < PAGES; i++) {
        CHECK_EQ((names[i] & MEMORY_UNREAD) != 0, is_unreadable(i));
        CHECK(is_unreadable(i) || is_full_of(out + i * PAGE_BYTES, i + 1));
    }
    CHECK(!memory.may_fault);
    munmap(pages, PAGES * PAGE_BYTES);
}

static uint64_t by_system_calls(int page)
{
    (void)page;
    return 0;
}

static uint64_t in_place(int page)
{
    (void)page;
    return MEMORY_IN_PLACE;
}

static uint64_t in_turns(int page)
{
    return page % 2 || page == CUT_OFF ? MEMORY_IN_PLACE : page % 4 == 2 ? MEMORY_FILE : 0;
}

static void system_calls_tell_what_is_not_there(void)
{
    handle_faults(SIG_DFL);
    read_all(by_system_calls);
}

static void a_fault_in_place_ends_the_copy_of_one_page(void)
{
    faults = 0;
    handle_faults(on_fault);
    memory_in_place(&memory);
    read_all(in_place);
    CHECK_EQ(faults, 2 + CUT_OFF_TO - CUT_OFF);
    handle_faults(SIG_DFL);
}

static void pages_are_read_in_place_and_not_in_turns(void)
{
    handle_faults(on_fault);
    memory_in_place(&memory);
    read_all(in_turns);
    handle_faults(SIG_DFL);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (memory_open(&memory) < 0)
        return 1;
    RUN(system_calls_tell_what_is_not_there);
    RUN(a_fault_in_place_ends_the_copy_of_one_page);
    RUN(pages_are_read_in_place_and_not_in_turns);
    memory_close(&memory);
    return tap_done();
}
