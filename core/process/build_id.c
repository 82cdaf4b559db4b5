/*
 * build_id.c - finds NT_GNU_BUILD_ID in a file's PT_NOTE segments.
 *
 * Always true: the file is not trusted; every offset and length is checked against what was read.
 */
#include "core/process/build_id.h"

#include <elf.h>
#include <string.h>
#include "core/base/sys.h"

#define NOTE_BYTES_MAX      1024
#define PROGRAM_HEADERS_MAX 32

static uint32_t build_id_in_notes(const uint8_t *notes, size_t size,
                                  uint8_t id[RECORD_BUILD_ID_BYTES])
{
    size_t at = 0;

    while (size - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        size_t name, content, next;

        memcpy(&note, notes + at, sizeof note);
        name = at + sizeof note;
        content = name + ((note.n_namesz + 3ul) & ~3ul);
        next = content + ((note.n_descsz + 3ul) & ~3ul);
        if (next > size)
            return 0;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            memcmp(notes + name, "GNU", 4) == 0 && note.n_descsz <= RECORD_BUILD_ID_BYTES) {
            memcpy(id, notes + content, note.n_descsz);
            return note.n_descsz;
        }
        at = next;
    }
    return 0;
}

static uint32_t build_id_of(int fd, uint8_t id[RECORD_BUILD_ID_BYTES])
{
    Elf64_Ehdr elf;
    uint8_t notes[NOTE_BYTES_MAX];

    if (sys_pread_all(fd, &elf, sizeof elf, 0) != 0 || memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
        elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_phentsize != sizeof(Elf64_Phdr))
        return 0;
    for (unsigned i = 0; i < elf.e_phnum && i < PROGRAM_HEADERS_MAX; i++) {
        Elf64_Phdr segment;
        size_t size;
        uint32_t length;

        if (sys_pread_all(fd, &segment, sizeof segment, elf.e_phoff + i * sizeof segment) != 0)
            return 0;
        if (segment.p_type != PT_NOTE)
            continue;
        size = segment.p_filesz < NOTE_BYTES_MAX ? segment.p_filesz : NOTE_BYTES_MAX;
        if (sys_pread_all(fd, notes, size, segment.p_offset) != 0)
            return 0;
        length = build_id_in_notes(notes, size, id);
        if (length > 0)
            return length;
    }
    return 0;
}

uint32_t build_id_read(const char *path, uint8_t id[RECORD_BUILD_ID_BYTES])
{
    int fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    uint32_t length;

    memset(id, 0, RECORD_BUILD_ID_BYTES);
    if (fd < 0)
        return 0;
    length = build_id_of(fd, id);
    (void)sys_close(fd);
    return length;
}
