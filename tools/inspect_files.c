/*
 * inspect_files.c - the view files: descriptors, what they refer to, what waits in pipes and
 * sockets, what epoll watches, locks; and mapped files, whether they are saved and still there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/process/mapped_files.h"
#include "core/process/sockets.h"
#include "tools/inspect.h"
#include "tools/table.h"

static const struct column columns[] = {
    {"number", "fd", COLUMN_NUMBER},   {"kind", "kind", COLUMN_TEXT},
    {"access", "access", COLUMN_TEXT}, {"offset", "offset", COLUMN_NUMBER},
    {"size", "size", COLUMN_NUMBER},   {"flags_text", "flags", COLUMN_TEXT},
    {"path", "path", COLUMN_TEXT},     {"detail", "detail", COLUMN_TEXT},
};

static const char *kind_name(uint32_t kind)
{
    static const char *const names[] = {
        [DESCRIPTION_REGULAR] = "file",         [DESCRIPTION_DIRECTORY] = "directory",
        [DESCRIPTION_DEVICE] = "device",        [DESCRIPTION_STDIO] = "stdio",
        [DESCRIPTION_TERMINAL] = "terminal",    [DESCRIPTION_PIPE] = "pipe",
        [DESCRIPTION_EVENTFD] = "eventfd",      [DESCRIPTION_EPOLL] = "epoll",
        [DESCRIPTION_TIMERFD] = "timerfd",      [DESCRIPTION_SIGNALFD] = "signalfd",
        [DESCRIPTION_BROKEN_PIPE] = "pipe out", [DESCRIPTION_SOCKET] = "socket",
        [DESCRIPTION_OBJECT] = "memory",        [DESCRIPTION_FIFO] = "fifo",
        [DESCRIPTION_INOTIFY] = "inotify",      [DESCRIPTION_PIDFD] = "pidfd",
    };

    return kind < sizeof names / sizeof names[0] && names[kind] ? names[kind] : "unknown";
}

static const char *access_name(uint32_t flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return "read";
    case O_WRONLY:
        return "write";
    default:
        return "both";
    }
}

static void put_flags(char *text, size_t size, uint32_t flags, bool close_on_exec)
{
    snprintf(text, size, "%s%s%s%s%s%s", flags & O_APPEND ? "append " : "",
             flags & O_NONBLOCK ? "nonblock " : "", flags & O_DIRECT ? "direct " : "",
             (flags & O_SYNC) == O_SYNC ? "sync " : "", flags & O_PATH ? "path " : "",
             close_on_exec ? "cloexec" : "");
    for (size_t length = strlen(text); length && text[length - 1] == ' '; length--)
        text[length - 1] = 0;
}

static json_t *watches_json(const struct process_image *process, uint32_t description)
{
    json_t *watches = json_array();

    for (uint32_t i = 0; i < process->watch_count; i++) {
        const struct record_epoll_watch *watch = process->watches[i];
        char data[32];

        if (watch->epoll != description)
            continue;
        snprintf(data, sizeof data, "0x%lx", (unsigned long)watch->data);
        json_array_append_new(watches,
                              json_pack("{s:I, s:I, s:s}", "number", (json_int_t)watch->number,
                                        "events", (json_int_t)watch->events, "data", data));
    }
    return watches;
}

/* "fd 5, fd 7": what an epoll watches. */
static void list_watches(char *text, size_t size, const json_t *watches)
{
    size_t used = (size_t)snprintf(text, size, "watches"), i;
    const json_t *watch;

    json_array_foreach(watches, i, watch)
    {
        if (used < size)
            used += (size_t)snprintf(text + used, size - used, "%s fd %d", i ? "," : "",
                                     (int)json_integer_value(json_object_get(watch, "number")));
    }
}

/* --- sockets --- */

static const char *const socket_states[] = {
    [SOCKET_OPEN] = "open",
    [SOCKET_LISTENING] = "listens",
    [SOCKET_RESET] = "comes back as a reset connection",
    [SOCKET_PAIR] = "the other end is its own",
    [SOCKET_ENDED] = "the other end is closed",
    [SOCKET_CONNECTED] = "connected: kept with --tcp-established, else reset",
};
_Static_assert(sizeof socket_states / sizeof *socket_states == SOCKET_CONNECTED + 1,
               "each state of a socket has a text");

/* "TCP 127.0.0.1:6379": the own address, or the other end's. */
static json_t *address_json(const struct image_socket *socket, bool of_other_end)
{
    struct record_socket record = *socket->record;
    struct image_socket end = {.record = &record, .address = socket->address};
    char text[256];

    if (of_other_end) {
        record.address_bytes = record.peer_bytes;
        end.address = socket->peer;
    }
    if (record.address_bytes == 0)
        return json_null();
    socket_text(&end, text, sizeof text);
    return table_text(text, strlen(text));
}

static uint64_t unread_bytes(const struct image_socket *socket)
{
    uint64_t bytes = socket->connection != NULL ? socket->connection->receive_bytes : 0;

    for (uint32_t i = 0; i < socket->message_count; i++)
        bytes += socket->messages[i].bytes;
    return bytes;
}

static void add_socket(const struct image_socket *socket, json_t *row, char *text, size_t size)
{
    uint32_t state = socket->record->state;
    uint64_t unread = unread_bytes(socket);
    json_t *own = address_json(socket, false), *other = address_json(socket, true);
    char waiting[64] = "", kind[256];

    socket_text(socket, kind, sizeof kind);
    if (unread)
        snprintf(waiting, sizeof waiting, "; %lu bytes unread", (unsigned long)unread);
    snprintf(text, size, "%s%s%s: %s%s", kind, json_is_null(other) ? "" : " to ",
             json_is_null(other) ? "" : json_string_value(other), socket_states[state], waiting);
    json_object_set_new(row, "socket_state", json_string(socket_states[state]));
    json_object_set_new(row, "own_address", own);
    json_object_set_new(row, "other_address", other);
    json_object_set_new(row, "unread_bytes", json_integer((json_int_t)unread));
    if (state == SOCKET_LISTENING)
        json_object_set_new(row, "backlog", json_integer(socket->record->backlog));
}

/* --- descriptors --- */

static void add_detail(const struct process_image *process, const struct record_description *record,
                       json_t *row)
{
    char text[640] = "";

    if (record->kind == DESCRIPTION_SOCKET) {
        add_socket(&process->sockets[record->value], row, text, sizeof text);
    } else if (record->kind == DESCRIPTION_OBJECT) {
        snprintf(text, sizeof text, "%s", process->objects[record->value].name);
    } else if (record->kind == DESCRIPTION_PIDFD) {
        snprintf(text, sizeof text, "pid %lu", (unsigned long)record->value);
    } else if (record->kind == DESCRIPTION_PIPE) {
        const struct record_pipe *pipe = process->pipes[record->value].record;

        snprintf(text, sizeof text, "pipe %u: %u of %u bytes unread", pipe->id, pipe->content_bytes,
                 pipe->capacity);
        json_object_set_new(row, "pipe", json_integer(pipe->id));
        json_object_set_new(row, "content_bytes", json_integer(pipe->content_bytes));
        json_object_set_new(row, "capacity", json_integer(pipe->capacity));
    } else if (record->kind == DESCRIPTION_EPOLL) {
        json_t *watches = watches_json(process, record->id);

        list_watches(text, sizeof text, watches);
        json_object_set_new(row, "watches", watches);
    } else if (record->kind == DESCRIPTION_EVENTFD) {
        snprintf(text, sizeof text, "count %lu%s", (unsigned long)record->value,
                 record->offset ? ", a semaphore" : "");
        json_object_set_new(row, "count", json_integer((json_int_t)record->value));
    } else if (record->kind == DESCRIPTION_TIMERFD) {
        snprintf(text, sizeof text, "%.3f s left, every %.3f s", (double)record->offset / 1e9,
                 (double)record->size / 1e9);
    } else if (record->kind == DESCRIPTION_REGULAR &&
               process_image_content(process, record->device, record->inode) != NULL) {
        snprintf(text, sizeof text, "content saved");
    } else if (record->kind == DESCRIPTION_SIGNALFD) {
        snprintf(text, sizeof text, "signals 0x%lx", (unsigned long)record->value);
    }
    json_object_set_new(row, "detail", table_text(text, strlen(text)));
}

static bool has_offset(uint32_t kind)
{
    return kind == DESCRIPTION_REGULAR || kind == DESCRIPTION_DIRECTORY;
}

static json_t *descriptor_row(const struct process_image *process,
                              const struct record_descriptor *descriptor)
{
    const struct image_description *description = &process->descriptions[descriptor->description];
    const struct record_description *record = description->record;
    char flags[64];
    json_t *row;

    put_flags(flags, sizeof flags, record->open_flags, descriptor->close_on_exec != 0);
    row = json_pack("{s:I, s:I, s:s, s:s, s:I, s:b, s:s, s:b}", "number",
                    (json_int_t)descriptor->number, "description",
                    (json_int_t)descriptor->description, "kind", kind_name(record->kind), "access",
                    access_name(record->open_flags), "open_flags", (json_int_t)record->open_flags,
                    "close_on_exec", descriptor->close_on_exec != 0, "flags_text", flags,
                    "cut_back_at_restore", (record->flags & RECORD_CUT_BACK) != 0);
    json_object_set_new(row, "path", table_text(description->path, strlen(description->path)));
    json_object_set_new(
        row, "content_saved",
        json_boolean(record->kind == DESCRIPTION_REGULAR &&
                     process_image_content(process, record->device, record->inode) != NULL));
    if (has_offset(record->kind)) {
        json_object_set_new(row, "offset", json_integer((json_int_t)record->offset));
        json_object_set_new(row, "size", json_integer((json_int_t)record->size));
    }
    add_detail(process, record, row);
    return row;
}

static const struct column lock_columns[] = {
    {"number", "fd", COLUMN_NUMBER},   {"kind", "lock", COLUMN_TEXT},
    {"mode", "mode", COLUMN_TEXT},     {"start", "from", COLUMN_NUMBER},
    {"bytes", "bytes", COLUMN_NUMBER},
};

static json_t *lock_row(const struct record_file_lock *lock)
{
    static const char *const kinds[] = {
        [LOCK_FLOCK] = "flock", [LOCK_POSIX] = "fcntl", [LOCK_DESCRIPTION] = "description"};
    json_t *row = json_pack("{s:I, s:s, s:s, s:I}", "number", (json_int_t)lock->number, "kind",
                            kinds[lock->kind], "mode", lock->exclusive ? "exclusive" : "shared",
                            "start", (json_int_t)lock->start);

    json_object_set_new(row, "bytes",
                        lock->bytes ? json_integer((json_int_t)lock->bytes) : json_null());
    return row;
}

static const struct column mapped_columns[] = {
    {"path", "mapped file", COLUMN_TEXT},
    {"bytes", "bytes", COLUMN_NUMBER},
    {"saved_text", "saved", COLUMN_TEXT},
    {"now", "now", COLUMN_TEXT},
};

static const char *state_now(const struct image_file *file)
{
    struct stat stat;

    if (mapped_file_is_same(file))
        return "the same";
    return sys_stat(file->path, &stat) == 0 ? "changed" : "gone";
}

static json_t *mapped_row(const struct image_file *file)
{
    json_t *row = json_pack("{s:I, s:b, s:s, s:s}", "bytes", (json_int_t)file->record->size,
                            "saved", file->saved != NULL, "saved_text",
                            file->saved != NULL ? "yes" : "no", "now", state_now(file));

    json_object_set_new(row, "path", table_text(file->path, strlen(file->path)));
    return row;
}

/* Without --self-contained none is saved; a person is told of what is not as it was. */
static void show_mapped(const struct inspection *inspection, const struct process_image *process)
{
    bool worth_it = inspection->json != NULL;
    json_t *rows = json_array();

    for (uint32_t i = 0; i < process->file_count; i++) {
        worth_it |= process->files[i].saved != NULL || !mapped_file_is_same(&process->files[i]);
        json_array_append_new(rows, mapped_row(&process->files[i]));
    }
    if (worth_it)
        table_show(inspection, "mapped_files", rows, mapped_columns,
                   sizeof mapped_columns / sizeof mapped_columns[0]);
    else
        json_decref(rows);
}

static const struct column content_columns[] = {
    {"path", "saved to be put back", COLUMN_TEXT},
    {"bytes", "bytes", COLUMN_NUMBER},
    {"pages", "pages", COLUMN_NUMBER},
    {"use", "when", COLUMN_TEXT},
};

static int show_contents(const struct inspection *inspection, struct view *view,
                         struct problem *why)
{
    const struct process_image *process = &view->process;
    json_t *rows = json_array();
    int status = 0;

    for (uint32_t i = 0; i < process->content_count && status == 0; i++) {
        const struct record_saved_content *content = process->contents[i];
        const char *path = process_image_content_path(process, content);
        uint64_t start = content->first_page << PAGE_SHIFT, pages;

        status =
            view_count_pages(view, start, start + content->bytes + PAGE_BYTES - 1, &pages, why);
        if (status == 0)
            json_array_append_new(
                rows, json_pack("{s:I, s:I, s:s, s:o}", "bytes", (json_int_t)content->bytes,
                                "pages", (json_int_t)pages, "use",
                                content->flags & CONTENT_READ_ONLY ? "it is gone" : "always",
                                "path", table_text(path, strlen(path))));
    }
    if (status == 0 && (inspection->json || json_array_size(rows)))
        table_show(inspection, "saved_contents", rows, content_columns,
                   sizeof content_columns / sizeof content_columns[0]);
    else
        json_decref(rows);
    return status;
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    const struct process_image *process = &view->process;
    json_t *rows, *locks;
    int status = view_needs_process(view, why);

    if (status < 0)
        return status;
    rows = json_array();
    locks = json_array();
    for (uint32_t i = 0; i < process->descriptor_count; i++)
        json_array_append_new(rows, descriptor_row(process, process->descriptors[i]));
    for (uint32_t i = 0; i < process->lock_count; i++)
        json_array_append_new(locks, lock_row(process->locks[i]));
    table_show(inspection, "files", rows, columns, sizeof columns / sizeof columns[0]);
    if (inspection->json || json_array_size(locks))
        table_show(inspection, "locks", locks, lock_columns,
                   sizeof lock_columns / sizeof lock_columns[0]);
    else
        json_decref(locks);
    show_mapped(inspection, process);
    return show_contents(inspection, view, why);
}

int inspect_files(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
