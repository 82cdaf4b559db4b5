/*
 * syscall_rules.h - which system calls need help after a stop, and what their arguments mean.
 *
 * All the others restart by themselves (rax = -ERESTART*), never wait, or end short for reasons of
 * their own (a splice ends when the pipe is empty).
 */
#ifndef PHEAP_PROCESS_SYSCALL_RULES_H
#define PHEAP_PROCESS_SYSCALL_RULES_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "core/base/status.h"
#include "core/process/continuation.h"

enum interrupted {                           /* what -EINTR calls for */
                   INTERRUPTED_RETRY,        /* the same call again */
                   INTERRUPTED_MILLISECONDS, /* with the time left, an int in ms */
                   INTERRUPTED_TIMESPEC,     /* with the time left, a relative timespec */
                   INTERRUPTED_RECEIVE, /* with what is left of SO_RCVTIMEO, if the descriptor is a
                                           socket */
                   INTERRUPTED_SEND,    /* SO_SNDTIMEO */
};

enum partial {                   /* when a count below the one asked for is our doing */
               PARTIAL_NATURAL,  /* never */
               PARTIAL_STREAM,   /* blocking pipe, socket or terminal */
               PARTIAL_SENDFILE, /* the same without pipes: there it moves what fits, and returns */
               PARTIAL_WAITALL,  /* a stream socket and MSG_WAITALL */
               PARTIAL_MESSAGES, /* recvmmsg without MSG_WAITFORONE or a timeout */
               PARTIAL_DEVICE,   /* /dev/zero, /dev/random, /dev/urandom */
               PARTIAL_ALWAYS,
};

struct syscall_rule {
    uint16_t nr;
    uint8_t interrupted;
    uint8_t timeout_argument;
    uint8_t partial;
    uint8_t advance;       /* enum continuation_advance */
    int8_t flags_argument; /* MSG_ flags; -1: none */
};

/* NULL: restarts by itself or is left alone. */
const struct syscall_rule *syscall_rule(uint64_t nr);

struct descriptor_look {
    uint32_t mode; /* st_mode */
    uint32_t device_major;
    bool nonblocking;
    bool terminal;
    bool stream_socket;
    bool internet;
    struct timespec receive_timeout, send_timeout; /* of a socket; zero: none */
};

/* Looks at descriptor fd of the process behind pidfd. 0 or -errno. */
MUST_CHECK int descriptor_look(int pidfd, int fd, struct descriptor_look *out);

/* Would an undisturbed call have moved everything? */
bool syscall_is_blocking_transfer(const struct syscall_rule *rule, const uint64_t args[6],
                                  const struct descriptor_look *look);

/* False when the rule can be applied without looking at the descriptor. */
bool syscall_rule_needs_look(const struct syscall_rule *rule);

#endif
