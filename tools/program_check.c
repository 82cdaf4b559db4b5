/*
 * program_check.c - see program_check.h. libpheap reaches a program through the dynamic loader and
 * LD_PRELOAD; a program that has no loader, or whose loader ignores LD_PRELOAD, would run on
 * silently without pheap. So it is refused here, before a pool is made.
 */
#include "tools/program_check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPT_DEPTH_MAX 5 /* the kernel's own limit of nested interpreters is 5 */

static int refuse(struct problem *why, const char *path, const char *reason)
{
    return problem_set(why, STATUS_REFUSED, "%s %s", path, reason);
}

static bool is_program_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp: a name with a slash is a path, anything else is looked up in PATH. */
static int find_in_path(const char *command, char found[PATH_MAX], struct problem *why)
{
    const char *path = getenv("PATH") ? getenv("PATH") : "/usr/local/bin:/usr/bin:/bin";
    const char *not_executable = NULL;
    char candidate[PATH_MAX], first_bad[PATH_MAX];

    if (strchr(command, '/')) {
        if (snprintf(found, PATH_MAX, "%s", command) >= PATH_MAX)
            return refuse(why, command, "is too long for a path");
        return 0;
    }
    for (;;) {
        size_t length = strcspn(path, ":");
        int printed = snprintf(candidate, sizeof candidate, "%.*s%s%s", (int)length, path,
                               length ? "/" : "", command);

        if (printed < (int)sizeof candidate && is_program_file(candidate)) {
            strcpy(found, candidate);
            return 0;
        }
        if (!not_executable && access(candidate, F_OK) == 0)
            not_executable = strcpy(first_bad, candidate);
        if (!path[length])
            break;
        path += length + 1;
    }
    if (not_executable) {
        strcpy(found, not_executable); /* check_file() says what is wrong with it */
        return 0;
    }
    return problem_set(why, STATUS_REFUSED, "%s: not found in PATH; check the name or give a path",
                       command);
}

static int check_file(const char *path, struct problem *why)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return problem_set(why, STATUS_REFUSED, "%s: %s; check the path", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return refuse(why, path, "is a directory; name a program in it");
    if (!S_ISREG(st.st_mode))
        return refuse(why, path, "is not a regular file; name a program");
    if (access(path, X_OK) < 0)
        return refuse(why, path, "is not executable by this user; see chmod +x");
    return 0;
}

/* The loader drops LD_PRELOAD when a program gains rights by its file. */
static int check_rights(const char *path, struct problem *why)
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)))
        return refuse(
            why, path,
            "is setuid or setgid, where LD_PRELOAD is ignored; use a copy without the bit");
    if (getxattr(path, "security.capability", NULL, 0) > 0)
        return refuse(
            why, path,
            "has file capabilities, with which LD_PRELOAD is ignored; use a copy without");
    return 0;
}

static int check_loader(const char *path, const char *loader, struct problem *why)
{
    const char *name = strrchr(loader, '/') ? strrchr(loader, '/') + 1 : loader;

    if (strcmp(name, "ld-linux-x86-64.so.2") == 0)
        return 0;
    return problem_set(why, STATUS_REFUSED, "%s uses the loader %s; pheap needs a glibc program",
                       path, loader);
}

static int check_elf_headers(const char *path, int fd, const Elf64_Ehdr *header,
                             struct problem *why)
{
    Elf64_Phdr segment;
    char loader[PATH_MAX];

    for (unsigned i = 0; i < header->e_phnum; i++) {
        off_t at = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);

        if (pread(fd, &segment, sizeof segment, at) != (ssize_t)sizeof segment)
            return refuse(why, path, "is a truncated ELF file");
        if (segment.p_type != PT_INTERP)
            continue;
        if (segment.p_filesz < 1 || segment.p_filesz >= sizeof loader ||
            pread(fd, loader, segment.p_filesz, (off_t)segment.p_offset) !=
                (ssize_t)segment.p_filesz)
            return refuse(why, path, "is a damaged ELF file (its loader's name)");
        loader[segment.p_filesz] = 0;
        return check_loader(path, loader, why);
    }
    return refuse(why, path,
                  "is statically linked, so nothing can be preloaded into it; "
                  "use a dynamically linked build");
}

static int check_elf(const char *path, int fd, const Elf64_Ehdr *header, struct problem *why)
{
    if (header->e_ident[EI_CLASS] == ELFCLASS32)
        return refuse(why, path, "is a 32-bit program; pheap serves 64-bit x86 ones only");
    if (header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
        return refuse(why, path, "is for another machine; pheap serves 64-bit x86 programs only");
    if (header->e_phentsize != sizeof(Elf64_Phdr))
        return refuse(why, path, "is a damaged ELF file (size of its program headers)");
    return check_elf_headers(path, fd, header, why);
}

/* Reads the interpreter's path out of a "#!" line. False: the line names none. */
static bool script_interpreter(const char *head, size_t length, char out[PATH_MAX])
{
    size_t start = 2, end;

    while (start < length && (head[start] == ' ' || head[start] == '\t'))
        start++;
    for (end = start; end < length && !strchr(" \t\n", head[end]); end++)
        ;
    if (end == start || end - start >= PATH_MAX)
        return false;
    memcpy(out, head + start, end - start);
    out[end - start] = 0;
    return true;
}

static int check_content(const char *path, int depth, bool *is_plain_script, struct problem *why)
{
    union {
        char text[256];
        Elf64_Ehdr elf;
    } head = {{0}};
    char interpreter[PATH_MAX];
    ssize_t length;
    int fd, status;

    if ((status = check_file(path, why)) < 0)
        return status;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return problem_set(why, STATUS_REFUSED, "%s: %s; pheap must be able to read the program",
                           path, strerror(errno));
    length = read(fd, head.text, sizeof head.text);
    if (length >= (ssize_t)sizeof head.elf && memcmp(head.text, ELFMAG, SELFMAG) == 0) {
        status = check_rights(path, why);
        if (status == 0)
            status = check_elf(path, fd, &head.elf, why);
    } else if (length > 2 && memcmp(head.text, "#!", 2) == 0) {
        if (depth >= SCRIPT_DEPTH_MAX)
            status = refuse(why, path, "is a script whose interpreters never end");
        else if (!script_interpreter(head.text, (size_t)length, interpreter))
            status = refuse(why, path, "is a script whose #! line names no interpreter");
        else
            status = check_content(interpreter, depth + 1, is_plain_script, why);
    } else if (depth == 0 && length > 0 && !memchr(head.text, 0, (size_t)length)) {
        *is_plain_script = true;
        status = check_content("/bin/sh", depth + 1, is_plain_script, why);
    } else {
        status = refuse(why, path, "is neither a program nor a script");
    }
    close(fd);
    return status;
}

int program_check(const char *command, struct program *out, struct problem *why)
{
    int status;

    memset(out, 0, sizeof *out);
    if (!*command)
        return problem_set(why, STATUS_REFUSED, "the command is empty; name a program");
    status = find_in_path(command, out->path, why);
    if (status < 0)
        return status;
    return check_content(out->path, 0, &out->is_plain_script, why);
}
