/*
 * record_socket_format.h - the items of a process record that are about sockets: their layout. Part
 * of record_format.h, which says what holds for all items.
 */
#ifndef PHEAP_PROCESS_RECORD_SOCKET_FORMAT_H
#define PHEAP_PROCESS_RECORD_SOCKET_FORMAT_H

#include <stdint.h>

enum record_socket_state {
    SOCKET_OPEN = 1,      /* perhaps bound; a datagram socket perhaps connected */
    SOCKET_LISTENING = 2, /* listens again; what was not accepted is gone */
    SOCKET_RESET = 3,     /* was connected to another process: comes back as a reset connection */
    SOCKET_PAIR = 4,      /* a Unix socket whose other end is inside too */
    SOCKET_ENDED = 5,     /* a Unix socket whose other end was closed: unread, then end of file */
    SOCKET_CONNECTED = 6, /* TCP, in a generation that the program's end followed: can be kept */
};

/* OFFSET SIZE
 *   0     4  id
 *   4     4  state
 *   8     4  family
 *  12     4  type
 *  16     4  protocol
 *  20     4  backlog of a listening one
 *  24     4  other end of a pair: description id, else RECORD_ID_NONE
 *  28     4  1 = shut down for reading, 2 = for writing
 *  32     4  mode of a Unix socket's file, 0: it has none
 *  36     4  its owner
 *  40     4  its group
 *  44     4  bytes of the own address, 0: not bound
 *  48     4  bytes of the other end's address, 0: not connected
 *  52     4  reserved, 0 */
struct record_socket {
    uint32_t id;
    uint32_t state;
    uint32_t family;
    uint32_t type;
    uint32_t protocol;
    uint32_t backlog;
    uint32_t other_end;
    uint32_t shutdown;
    uint32_t file_mode;
    uint32_t file_uid;
    uint32_t file_gid;
    uint32_t address_bytes;
    uint32_t peer_bytes;
    uint32_t reserved;
};

/* As setsockopt takes it; the tail is its value. */
struct record_socket_option {
    uint32_t socket;
    uint32_t level;
    uint32_t name;
    uint32_t reserved;
};

/* One datagram, or a part of a stream. */
struct record_socket_message {
    uint32_t socket;
    uint32_t reserved;
};

/* Of a socket in state SOCKET_CONNECTED, one each. Sequence numbers are those behind the queue.
 * OFFSET SIZE
 *   0     4  socket id
 *   4     4  what was agreed: 1 = timestamps, 2 = selective acknowledgements, 4 = window scale
 *   8     4  window scale of the other end
 *  12     4  our own
 *  16     4  largest segment, in bytes
 *  20     4  timestamp of ours at the cut
 *  24     4  sequence number of the next byte to come
 *  28     4  sequence number of the next byte that is written
 *  32     4  bytes that were unread; they come first in the tail
 *  36     4  bytes that were not acknowledged; they follow
 *  40     4  how many of those cannot have been sent
 *  44    20  struct tcp_repair_window
 *  64     4  size of the send buffer, as getsockopt gives it
 *  68     4  of the receive buffer
 *  72     4  which of them the program had set (SO_BUF_LOCK)
 *  76     4  reserved, 0 */
struct record_socket_connection {
    uint32_t socket;
    uint32_t options;
    uint32_t send_scale;
    uint32_t receive_scale;
    uint32_t segment_bytes;
    uint32_t timestamp;
    uint32_t receive_sequence;
    uint32_t send_sequence;
    uint32_t receive_bytes;
    uint32_t send_bytes;
    uint32_t unsent_bytes;
    uint32_t window[5];
    uint32_t send_buffer;
    uint32_t receive_buffer;
    uint32_t buffer_locks;
    uint32_t reserved;
};

_Static_assert(sizeof(struct record_socket) == 56, "as drawn");
_Static_assert(sizeof(struct record_socket_option) == 16, "as drawn");
_Static_assert(sizeof(struct record_socket_message) == 8, "as drawn");
_Static_assert(sizeof(struct record_socket_connection) == 80, "as drawn");

#endif
