/*
 * record_fixture.h - a process record made item by item, with whatever a test says, and read back.
 *
 *     put_basic(1);                       what every record has, of one thread
 *     put_mapping(...); put_socket(...);  one item more
 *     CHECK_EQ(read_status(), STATUS_DAMAGED);
 */
#ifndef PHEAP_T_LIB_RECORD_FIXTURE_H
#define PHEAP_T_LIB_RECORD_FIXTURE_H

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include "core/process/process_image.h"
#include "core/process/record.h"
#include "t/lib/tap.h"

static struct arena arena;
static uint8_t buffer[65536] __attribute__((aligned(16)));
static struct record_writer writer;

static inline void put_basic(uint32_t threads)
{
    struct record_process process = {
        .version = RECORD_FORMAT_VERSION, .pid = 100, .thread_count = threads, .slot = 3};
    struct record_memory_layout layout = {.brk = 4096};
    static struct record_signal_actions signals;
    static struct record_limits limits;
    struct record_file file = {.id = 0, .size = 7};

    writer = (struct record_writer){.buffer = buffer, .size = sizeof buffer};
    record_put(&writer, RECORD_PROCESS, &process, sizeof process, NULL, 0);
    record_put(&writer, RECORD_DIRECTORY, NULL, 0, "/tmp", 5);
    record_put(&writer, RECORD_MEMORY_LAYOUT, &layout, sizeof layout, "0123456789abcdef", 16);
    record_put(&writer, RECORD_SIGNAL_ACTIONS, &signals, sizeof signals, NULL, 0);
    record_put(&writer, RECORD_LIMITS, &limits, sizeof limits, NULL, 0);
    record_put(&writer, RECORD_FILE, &file, sizeof file, "/bin/true", 10);
    for (uint32_t i = 0; i < threads; i++) {
        struct record_thread thread = {.tid = 100 + (int32_t)i, .xstate_bytes = 64};
        uint8_t xstate[64] = {0};

        record_put(&writer, RECORD_THREAD, &thread, sizeof thread, xstate, sizeof xstate);
    }
}

static inline void put_mapping(uint64_t start, uint64_t end, uint32_t file, uint32_t flags)
{
    struct record_mapping mapping = {
        .start = start, .end = end, .prot = 3, .file = file, .flags = flags};

    record_put(&writer, RECORD_MAPPING, &mapping, sizeof mapping, "", 1);
}

static inline int read_back(struct process_image *image)
{
    struct problem why = {0};
    int status = process_image_read(image, buffer, writer.used, &arena, &why);

    CHECK(status == 0 || (why.status == status && why.text[0] != 0));
    return status;
}

static inline int read_status(void)
{
    struct process_image image;

    return read_back(&image);
}

/* --- objects --- */

static inline void put_object(uint32_t kind, uint64_t size, const char *name)
{
    struct record_object object = {.kind = kind, .size = size, .mode = 0600};

    put_basic(1);
    record_put(&writer, RECORD_OBJECT, &object, sizeof object, name, strlen(name) + 1);
}

static inline void put_content(uint32_t object, uint64_t offset, size_t bytes)
{
    struct record_object_content content = {.object = object, .offset = offset};

    record_put(&writer, RECORD_OBJECT_CONTENT, &content, sizeof content, "12345678", bytes);
}

/* --- sockets --- */

static inline struct record_socket tcp_socket(void)
{
    return (struct record_socket){.state = SOCKET_LISTENING,
                                  .family = AF_INET,
                                  .type = SOCK_STREAM,
                                  .protocol = IPPROTO_TCP,
                                  .backlog = 5,
                                  .other_end = RECORD_ID_NONE,
                                  .address_bytes = sizeof(struct sockaddr_in)};
}

static inline void put_socket(const struct record_socket *socket, uint16_t family)
{
    uint8_t tail[64] = {0};
    size_t bytes = socket->address_bytes;

    memcpy(tail, &family, sizeof family);
    if (socket->peer_bytes == sizeof(struct sockaddr_in)) {
        memcpy(tail + socket->address_bytes, &family, sizeof family);
        bytes += socket->peer_bytes;
    }
    record_put(&writer, RECORD_SOCKET, socket, sizeof *socket, tail,
               bytes <= sizeof tail ? bytes : sizeof tail);
}

static inline void put_socket_description(uint32_t id, uint32_t value)
{
    struct record_description description = {.id = id, .kind = DESCRIPTION_SOCKET, .value = value};

    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "socket:[1]", 11);
}

static inline void put_option(uint32_t socket, uint32_t level, size_t bytes)
{
    struct record_socket_option option = {.socket = socket, .level = level, .name = SO_KEEPALIVE};

    record_put(&writer, RECORD_SOCKET_OPTION, &option, sizeof option, "\1\0\0\0\0\0\0", bytes);
}

#endif
