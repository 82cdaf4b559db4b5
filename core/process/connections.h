/*
 * connections.h - TCP connections that outlive the program: taken in the checkpoint that its end
 * follows at once, and made again when it is resumed (--tcp-established).
 *
 *     program --SIGTERM--> process_capture()     each is deaf and in repair mode from here on
 *                          generation durable    connections_guard(), the program dies: not a
 * packet anything failed       connections_give_back(): as if nothing had been restore
 * connections_make()    deaf and in repair mode, with what was under way (the program is let go
 * next)    guard_remove(), connections_wake()
 *
 * Deaf: a socket filter drops what comes in before TCP sees it, so it is not acknowledged and the
 * other side sends it again. In repair mode (TCP_REPAIR, CAP_NET_ADMIN) sequence numbers and queues
 * are read and set, and a close says nothing to the other side.
 *
 * Always true: no byte is acknowledged that is neither in the image nor with the program. While the
 * program is away nobody has the connection's ports, and the kernel would answer what comes in by a
 * reset: the guard, a table of the packet filter (nf_tables), drops it.
 */
#ifndef PHEAP_PROCESS_CONNECTIONS_H
#define PHEAP_PROCESS_CONNECTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

struct process_image;

struct kept_connection {
    int fd;         /* the caller's own, for the same socket */
    uint32_t reuse; /* SO_REUSEADDR, which repair mode forgets */
};

struct kept_connections {
    struct kept_connection *list; /* in the capture's scratch */
    uint32_t count;
    uint32_t lost;  /* established and not kept: they come back reset */
    int lost_since; /* the status of the last of them */
};

/* As they were before the capture, and the list empty. */
void connections_give_back(struct kept_connections *connections);
/* The program has ended: our descriptors are closed. */
void connections_close(struct kept_connections *connections);

/* What comes in for them from here on is dropped until guard_remove(), by this pool's table. 0, or
 * why there is none: -EPERM, or the kernel has no nf_tables (-EPROTONOSUPPORT, -EOPNOTSUPP). */
MUST_CHECK int connections_guard(const struct kept_connections *connections,
                                 const uint8_t uuid[16]);
/* Nothing is done where there is no such table. 0, or a negative status. */
int guard_remove(const uint8_t uuid[16]);
#define GUARD_NAME_BYTES 40
void guard_name(const uint8_t uuid[16], char name[GUARD_NAME_BYTES]);

uint32_t connections_count(const struct process_image *image);
/* In the stopped process pid, whose descriptors are in their places. */
MUST_CHECK int connections_make(const struct process_image *image, int pid, struct problem *why);
/* They hear and speak again. */
MUST_CHECK int connections_wake(const struct process_image *image, int pid, struct problem *why);

/* 0 if connections can be kept by this process, -EPERM, or what else is in the way. */
MUST_CHECK int connections_possible(void);

#endif
