/*
 * slot.c - see slot.h. The block behind __libc_stack_end is argc, argv, NULL, environment, NULL,
 * auxiliary vector, as the kernel laid it down; ld.so exports that symbol to all. Nothing here may
 * call malloc.
 */
#include "preload/slot.h"

#include <elf.h>
#include <stddef.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/options.h"
#include "core/base/slot_choice.h"
#include "core/heap/heap.h"
#include "core/heap/profile.h"

/* More arguments than the kernel would pass: not the block we take it for. */
#define ARGUMENTS_MAX (1l << 24)

extern void *__libc_stack_end;

struct start_block {
    char **environment; /* NULL-terminated; NULL if the block was not recognised */
    bool is_secure;
};

static struct start_block start_block_read(void)
{
    struct start_block block = {NULL, true};
    const uintptr_t *words = __libc_stack_end;
    const Elf64_auxv_t *aux;
    char **end;
    long argc;

    if (words == NULL)
        return block;
    argc = (long)words[0];
    if (argc < 0 || argc > ARGUMENTS_MAX || words[1 + argc] != 0)
        return block;
    block.environment = (char **)(uintptr_t)(words + argc + 2);
    for (end = block.environment; *end; end++)
        continue;
    for (aux = (const Elf64_auxv_t *)(end + 1); aux->a_type != AT_NULL; aux++)
        if (aux->a_type == AT_SECURE)
            block.is_secure = aux->a_un.a_val != 0;
    return block;
}

static bool slot_is_valid(uint32_t slot)
{
    return slot == SLOT_VOLATILE || slot_can_be_chosen(slot);
}

static bool slot_parse(const char *text, uint32_t *slot)
{
    uint32_t number = 0;

    if (*text == 0)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || number > SLOT_COUNT)
            return false;
        number = number * 10 + (uint32_t)(*text - '0');
    }
    *slot = number;
    return slot_is_valid(number);
}

uint32_t slot_of_pool_path(const char *path)
{
    return slot_for_process(checksum64(path, strlen(path)));
}

uint32_t slot_wanted(void)
{
    struct start_block block = start_block_read();
    const char *text;
    uint32_t slot;

    if (block.environment == NULL || block.is_secure)
        return SLOT_VOLATILE;
    text = options_variable(block.environment, "PHEAP_SLOT");
    if (text && slot_parse(text, &slot))
        return slot;
    text = options_variable(block.environment, "PHEAP_POOL");
    if (text && *text)
        return slot_of_pool_path(text);
    return SLOT_VOLATILE;
}

static bool hardening_is_wanted(void)
{
    struct start_block block = start_block_read();

    return block.environment && !block.is_secure &&
           options_switch(block.environment, "PHEAP_HARDEN");
}

static bool profile_is_wanted(void)
{
    struct start_block block = start_block_read();

    return block.environment && !block.is_secure &&
           options_switch(block.environment, "PHEAP_PROFILE");
}

bool slot_start_heap(void)
{
    uint32_t wanted = slot_wanted();

    if (hardening_is_wanted())
        heap_harden();
    if (profile_is_wanted())
        heap_profile_reserve();
    if (heap_start(wanted) == 0)
        return true;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        if (slot_is_valid(slot) && heap_start(slot) == 0)
            return true;
    return false;
}
