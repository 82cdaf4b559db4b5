/*
 * vdso.c - see vdso.h. Both images are read as hostile bytes: the old one comes from a pool.
 */
#include "core/process/vdso.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>
#include "core/base/sys.h"

struct symbols {
    const uint8_t *image;
    size_t bytes;
    uint64_t table, count; /* where the symbols are */
    uint64_t strings, string_bytes;
};

static bool lies_within(uint64_t offset, uint64_t bytes, size_t size)
{
    return offset <= size && bytes <= size - offset;
}

/* Copied: nothing says that it is aligned. */
static bool read_section(const uint8_t *image, size_t bytes, const Elf64_Ehdr *header,
                         uint64_t index, Elf64_Shdr *out)
{
    uint64_t offset = header->e_shoff + index * sizeof *out;

    if (index >= header->e_shnum || header->e_shoff > bytes ||
        !lies_within(offset, sizeof *out, bytes))
        return false;
    memcpy(out, image + offset, sizeof *out);
    return true;
}

static bool find_symbols(const uint8_t *image, size_t bytes, struct symbols *out)
{
    Elf64_Ehdr header;
    Elf64_Shdr table, strings;

    if (bytes < sizeof header)
        return false;
    memcpy(&header, image, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_machine != EM_X86_64 || header.e_shentsize != sizeof table)
        return false;
    for (uint64_t i = 0; i < header.e_shnum; i++) {
        if (!read_section(image, bytes, &header, i, &table))
            return false;
        if (table.sh_type != SHT_DYNSYM)
            continue;
        if (!read_section(image, bytes, &header, table.sh_link, &strings) ||
            !lies_within(table.sh_offset, table.sh_size, bytes) || strings.sh_size == 0 ||
            !lies_within(strings.sh_offset, strings.sh_size, bytes))
            return false;
        *out = (struct symbols){image,
                                bytes,
                                table.sh_offset,
                                table.sh_size / sizeof(Elf64_Sym),
                                strings.sh_offset,
                                strings.sh_size};
        return image[strings.sh_offset + strings.sh_size - 1] == 0;
    }
    return false;
}

/* The n-th symbol, if it is a function within the image; its name. */
static const char *function_at(const struct symbols *symbols, uint64_t n, Elf64_Sym *out)
{
    memcpy(out, symbols->image + symbols->table + n * sizeof *out, sizeof *out);
    if (ELF64_ST_TYPE(out->st_info) != STT_FUNC || out->st_shndx == SHN_UNDEF ||
        out->st_name >= symbols->string_bytes ||
        !lies_within(out->st_value, out->st_size, symbols->bytes))
        return NULL;
    return (const char *)symbols->image + symbols->strings + out->st_name;
}

static bool find_function(const struct symbols *symbols, const char *name, Elf64_Sym *out)
{
    for (uint64_t n = 0; n < symbols->count; n++) {
        const char *found = function_at(symbols, n, out);

        if (found != NULL && strcmp(found, name) == 0)
            return true;
    }
    return false;
}

/* movabs $target, %rax; jmp *%rax */
static size_t jump_to(uint8_t *code, uint64_t target)
{
    memcpy(code, "\x48\xb8", 2);
    memcpy(code + 2, &target, 8);
    memcpy(code + 10, "\xff\xe0", 2);
    return 12;
}

/* mov $number, %eax; syscall; ret: a function of the vdso has its call's arguments and result. */
static size_t call_kernel(uint8_t *code, uint32_t number)
{
    code[0] = 0xb8;
    memcpy(code + 1, &number, 4);
    memcpy(code + 5, "\x0f\x05\xc3", 3);
    return 8;
}

/* Its state belongs to one kernel's code, so it is not handed on: asked for the state's size (r8 is
 * -1) it has none, and else it is the system call, which does without. */
static size_t get_random(uint8_t *code)
{
    memcpy(code, "\x49\x83\xf8\xff\x74\x08", 6);              /* cmp $-1, %r8; je */
    (void)call_kernel(code + 6, SYS_getrandom);               /* 8 bytes */
    memcpy(code + 14, "\x48\xc7\xc0\xda\xff\xff\xff\xc3", 8); /* mov $-ENOSYS, %rax; ret */
    return 22;
}

#define CODE_BYTES_MAX 22

/* What a function begins with from now on; 0: nothing can stand in for it. */
static size_t make_code(uint8_t *code, const char *name, const struct symbols *now,
                        uint64_t now_address)
{
    static const struct {
        const char *name;
        uint32_t number;
    } calls[] = {{"clock_gettime", SYS_clock_gettime},
                 {"gettimeofday", SYS_gettimeofday},
                 {"time", SYS_time},
                 {"clock_getres", SYS_clock_getres},
                 {"getcpu", SYS_getcpu}};
    const char *plain = strncmp(name, "__vdso_", 7) == 0 ? name + 7 : name;
    Elf64_Sym found;

    if (strcmp(plain, "getrandom") == 0)
        return get_random(code);
    if (find_function(now, name, &found))
        return jump_to(code, now_address + found.st_value);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(plain, calls[i].name) == 0)
            return call_kernel(code, calls[i].number);
    return 0;
}

int vdso_redirect(uint8_t *text, size_t bytes, const uint8_t *now, size_t now_bytes,
                  uint64_t now_address)
{
    struct symbols old_symbols, new_symbols;
    uint8_t code[CODE_BYTES_MAX];

    if (!find_symbols(text, bytes, &old_symbols) || !find_symbols(now, now_bytes, &new_symbols))
        return STATUS_DAMAGED;
    for (uint64_t n = 0; n < old_symbols.count; n++) {
        Elf64_Sym symbol;
        const char *name = function_at(&old_symbols, n, &symbol);
        size_t length = name != NULL ? make_code(code, name, &new_symbols, now_address) : 0;

        if (name == NULL)
            continue;
        if (length == 0 || length > symbol.st_size)
            return STATUS_UNSUPPORTED;
        memcpy(text + symbol.st_value, code, length);
    }
    return 0;
}
