/*
 * control_name.h - the abstract socket address of a pool's agent: "\0pheap/" and 32 hex digits.
 */
#ifndef PHEAP_AGENT_CONTROL_NAME_H
#define PHEAP_AGENT_CONTROL_NAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Fills in the address; its length. */
static inline uint32_t control_address(struct sockaddr_un *address, const uint8_t uuid[16])
{
    static const char digits[] = "0123456789abcdef";
    char *at = address->sun_path;

    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    *at++ = 0;
    memcpy(at, "pheap/", 6);
    at += 6;
    for (int i = 0; i < 16; i++) {
        *at++ = digits[uuid[i] >> 4];
        *at++ = digits[uuid[i] & 15];
    }
    return (uint32_t)(at - (char *)address);
}

#endif
