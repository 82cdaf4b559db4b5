/*
 * inspect_core.c - pheap inspect --core FILE: a core file of a generation, for gdb.
 */
#include <inttypes.h>
#include <stdio.h>
#include "core/process/mapped_files.h"
#include "recovery/view/core_file.h"
#include "tools/command.h"
#include "tools/inspect.h"

/* gdb takes code and symbols from the files: it must be told of another one than the program had.
 */
static void note_changed_files(const struct view *view)
{
    const struct process_image *process = &view->process;

    for (uint32_t i = 0; i < process->file_count; i++)
        if (!mapped_file_is_same(&process->files[i]))
            report("inspect", EXIT_FINE,
                   "%s has changed since the checkpoint: gdb will not find its way in it",
                   process->files[i].path);
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    const char *path = inspection->core_path;
    const struct process_image *process = &view->process;
    struct core_file core;
    char size[32], length[32];
    int status = core_file_write(view, path, &core, why);

    if (status < 0)
        return status;
    note_changed_files(view);
    if (inspection->json)
        json_object_set_new(inspection->json, "core",
                            json_pack("{s:I, s:I, s:I, s:I}", "generation",
                                      (json_int_t)view->generation.number, "threads",
                                      (json_int_t)core.threads, "bytes", (json_int_t)core.bytes,
                                      "pages", (json_int_t)core.pages));
    else
        printf("%s: generation %" PRIu64 ", %" PRIu64 " threads, %s of memory (%s with holes)\n"
               "open it with: gdb %s %s\n",
               path, view->generation.number, core.threads, show_bytes(size, core.pages * 4096),
               show_bytes(length, core.bytes), process->files[process->process->executable].path,
               path);
    return 0;
}

int inspect_core(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
