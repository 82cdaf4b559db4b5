/*
 * socket_connection.h - what the files about kept TCP connections share (connections.h). Internal
 * to core/process.
 */
#ifndef PHEAP_PROCESS_SOCKET_CONNECTION_H
#define PHEAP_PROCESS_SOCKET_CONNECTION_H

#include "core/process/sockets.h"

#define CONNECTION_OPTIONS 7u /* timestamps, SACK, window scale */

/* A 32-bit option. */
int connection_set(int fd, int level, int name, uint32_t value);
MUST_CHECK int connection_deafen(int fd);
int connection_hear(int fd);

#endif
