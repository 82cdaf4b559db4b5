/*
 * sockets.h - what the files about sockets share. Internal to core/process.
 *
 *   sockets.c          which socket it is and in which state; open, bound, listening ones
 *   socket_connection.c, socket_revival.c, connection_guard.c    connections that are kept
 *   socket_reset.c     connections to other processes, which come back reset
 *   socket_pairs.c     Unix sockets with both ends inside, and what is unread in them
 *   socket_options.c   the options that are kept
 *   socket_address.c   addresses as texts; files of Unix sockets
 *   socket_diag.c      what only the kernel's socket diagnosis tells of a Unix socket
 */
#ifndef PHEAP_PROCESS_SOCKETS_H
#define PHEAP_PROCESS_SOCKETS_H

#include <sys/socket.h>
#include <sys/un.h>
#include "core/process/descriptors.h"

#define SOCKET_ADDRESS_BYTES 128

/* One socket of the stopped program, seen through a descriptor that was borrowed. */
struct socket_look {
    int fd;
    const struct open_description *description;
    struct record_socket record;
    struct record_socket_connection connection; /* of one that is kept */
    uint32_t reuse;                             /* likewise: its SO_REUSEADDR */
    uint8_t address[SOCKET_ADDRESS_BYTES];
    uint8_t peer[SOCKET_ADDRESS_BYTES];
};

/* A 32-bit socket option. */
MUST_CHECK int socket_number(int fd, int level, int name, uint32_t *value);
/* A failure that names the descriptor: "fd 7: WHAT cannot be checkpointed". */
int socket_obstacle(struct descriptor_run *run, const struct open_description *description,
                    const char *what);

/* Of a family, type and protocol that are kept. */
bool socket_is_supported(const struct record_socket *record);

/* socket_address.c */
#define SOCKET_TEXT_BYTES 160
/* "TCP 127.0.0.1:80", "Unix /run/x", for messages. */
void socket_text(const struct image_socket *socket, char *text, size_t size);
/* The path of a Unix socket that has one, NUL-terminated, in `path`; false: it has none. */
bool socket_path(const uint8_t *address, uint32_t bytes, char path[sizeof(struct sockaddr_un)]);
MUST_CHECK int capture_socket_file(struct descriptor_run *run, struct socket_look *look,
                                   uint32_t inode);
void rebuild_bind(struct descriptor_rebuild *run, const struct image_socket *socket,
                  struct opened opened, const char *what);

/* socket_diag.c */
struct unix_socket_state {
    uint32_t state;      /* TCP_LISTEN and so on, as all sockets have it */
    uint32_t shutdown;   /* 1 reading, 2 writing */
    uint32_t backlog;    /* of a listening one */
    bool connected;      /* to something, which may have been closed since */
    uint32_t peer_inode; /* 0: closed, or not accepted yet */
    uint32_t file_inode; /* of its path, 0: none */
};
MUST_CHECK int socket_diag_unix(struct descriptor_run *run, uint32_t inode,
                                struct unix_socket_state *out);

/* socket_options.c */
/* Is it one that is kept, with a value of this size? */
bool socket_option_is_known(const struct record_socket_option *record, uint32_t bytes);
void capture_socket_options(struct descriptor_run *run, const struct socket_look *look);
/* Before or behind bind(). */
void rebuild_socket_options(struct batch *batch, const struct image_socket *socket,
                            struct opened opened, const char *what, bool early);

/* socket_pairs.c: messages are items behind the socket's own. */
MUST_CHECK int capture_socket_messages(struct descriptor_run *run, const struct socket_look *look);
struct opened open_socket_pair(struct descriptor_rebuild *run, uint32_t id, const char *what);
struct opened open_socket_ended(struct descriptor_rebuild *run, const struct image_socket *socket,
                                const char *what);

/* socket_connection.c. Of a TCP socket that is neither listening nor unconnected: 1 if it is kept,
 * and look->connection says how it stands; 0: it is not. Its content follows its other items. */
struct tcp_info;
MUST_CHECK int capture_connection(struct descriptor_run *run, struct socket_look *look,
                                  const struct tcp_info *info);
MUST_CHECK int capture_connection_content(struct descriptor_run *run,
                                          const struct socket_look *look);

/* socket_reset.c */
struct opened open_socket_reset(struct descriptor_rebuild *run, const struct image_socket *socket,
                                const char *what);

#endif
