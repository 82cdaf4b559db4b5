/*
 * doctor_program.c - what a program is like: can libpheap be loaded into it, and does it bring an
 * allocator of its own, whose memory would then be saved as any other, but not laid open. True
 * always: the program is read, not run.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/doctor.h"
#include "tools/program_check.h"

struct elf_file {
    const uint8_t *bytes;
    uint64_t size;
};

static const void *elf_at(const struct elf_file *file, uint64_t offset, uint64_t bytes)
{
    return offset <= file->size && bytes <= file->size - offset ? file->bytes + offset : NULL;
}

/* The section with this type, NULL if there is none. */
static const Elf64_Shdr *elf_section(const struct elf_file *file, uint32_t type)
{
    const Elf64_Ehdr *header = elf_at(file, 0, sizeof *header);
    const Elf64_Shdr *section;

    for (unsigned i = 0; header && i < header->e_shnum; i++) {
        section = elf_at(file, header->e_shoff + (uint64_t)i * sizeof *section, sizeof *section);
        if (section && section->sh_type == type && header->e_shentsize == sizeof *section)
            return section;
    }
    return NULL;
}

static const char *elf_string(const struct elf_file *file, const Elf64_Shdr *strings,
                              uint64_t offset)
{
    const char *text =
        strings && offset < strings->sh_size ? elf_at(file, strings->sh_offset + offset, 1) : NULL;

    if (!text || !memchr(text, 0, file->size - (strings->sh_offset + offset)))
        return NULL;
    return text;
}

static const Elf64_Shdr *elf_numbered(const struct elf_file *file, unsigned number)
{
    const Elf64_Ehdr *header = elf_at(file, 0, sizeof *header);
    const Elf64_Shdr *section;

    if (!header || number >= header->e_shnum || header->e_shentsize != sizeof *section)
        return NULL;
    return elf_at(file, header->e_shoff + (uint64_t)number * sizeof *section, sizeof *section);
}

/* The section that a section's sh_link names. */
static const Elf64_Shdr *elf_linked(const struct elf_file *file, const Elf64_Shdr *section)
{
    return section ? elf_numbered(file, section->sh_link) : NULL;
}

/* The program defines malloc itself and lets the loader see it: its own comes first. */
static bool defines_malloc(const struct elf_file *file)
{
    const Elf64_Shdr *table = elf_section(file, SHT_DYNSYM);
    const Elf64_Shdr *strings = elf_linked(file, table);
    const Elf64_Sym *symbol;
    const char *name;

    for (uint64_t at = 0; table && at + sizeof *symbol <= table->sh_size; at += sizeof *symbol) {
        symbol = elf_at(file, table->sh_offset + at, sizeof *symbol);
        name = symbol ? elf_string(file, strings, symbol->st_name) : NULL;
        if (name && symbol->st_shndx != SHN_UNDEF && strcmp(name, "malloc") == 0)
            return true;
    }
    return false;
}

/* A library that the program needs and whose name begins so. */
static bool needs(const struct elf_file *file, const char *prefix)
{
    const Elf64_Shdr *table = elf_section(file, SHT_DYNAMIC);
    const Elf64_Shdr *strings = elf_linked(file, table);
    const Elf64_Dyn *entry;
    const char *name;

    for (uint64_t at = 0; table && at + sizeof *entry <= table->sh_size; at += sizeof *entry) {
        entry = elf_at(file, table->sh_offset + at, sizeof *entry);
        if (!entry || entry->d_tag != DT_NEEDED)
            continue;
        name = elf_string(file, strings, entry->d_un.d_val);
        if (name && strncmp(name, prefix, strlen(prefix)) == 0)
            return true;
    }
    return false;
}

/* The linker's own section: the text that marks it is in any program that looks for it, too. */
static bool is_go(const struct elf_file *file)
{
    const Elf64_Ehdr *header = elf_at(file, 0, sizeof *header);
    const Elf64_Shdr *names = elf_numbered(file, header ? header->e_shstrndx : 0), *section;
    const char *name;

    for (unsigned i = 1; header && (section = elf_numbered(file, i)) != NULL; i++) {
        name = elf_string(file, names, section->sh_name);
        if (name && strcmp(name, ".go.buildinfo") == 0)
            return true;
    }
    return false;
}

static void look_inside(struct doctor *doctor, const char *path, const struct elf_file *file)
{
    if (needs(file, "libasan") || needs(file, "libtsan") || needs(file, "liblsan"))
        doctor_find(doctor, "allocator", DOCTOR_NO, "use a build without -fsanitize",
                    "%s is built with a sanitizer, which must be the first library and has its own "
                    "malloc",
                    path);
    else if (is_go(file))
        doctor_find(doctor, "allocator", DOCTOR_LIMITED,
                    "checkpoints and restores work; pheap inspect shows the blocks of its C code "
                    "alone",
                    "%s is a Go program: its heap is its own", path);
    else if (defines_malloc(file))
        doctor_find(doctor, "allocator", DOCTOR_LIMITED,
                    "checkpoints and restores work; pheap inspect shows no blocks",
                    "%s brings a malloc of its own, which the preloaded one does not replace",
                    path);
    else if (needs(file, "libjemalloc") || needs(file, "libtcmalloc") || needs(file, "libmimalloc"))
        doctor_find(doctor, "allocator", DOCTOR_OK, NULL,
                    "%s is linked with another malloc; the preloaded one takes its place", path);
    else
        doctor_find(doctor, "allocator", DOCTOR_OK, NULL, "%s uses the C library's", path);
}

static void look_at_file(struct doctor *doctor, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    struct elf_file file = {0};
    void *mapped;

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(Elf64_Ehdr)) {
        mapped = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped != MAP_FAILED) {
            file = (struct elf_file){mapped, (uint64_t)st.st_size};
            if (memcmp(file.bytes, ELFMAG, SELFMAG) == 0)
                look_inside(doctor, path, &file);
            munmap(mapped, (size_t)st.st_size);
        }
    }
    close(fd);
}

void doctor_program(struct doctor *doctor, const char *command)
{
    struct problem why = {0};
    struct program program;

    if (program_check(command, &program, &why) < 0) {
        doctor_find(doctor, "program", DOCTOR_NO, NULL, "%s", why.text);
        return;
    }
    doctor_find(doctor, "program", DOCTOR_OK, NULL, "%s can be run under pheap", program.path);
    look_at_file(doctor, program.path);
}
