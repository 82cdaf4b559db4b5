/*
 * control.h - how tools and the program itself talk to an agent.
 *
 * The agent listens on an abstract Unix socket (SOCK_SEQPACKET) named after the pool's uuid:
 * "\0pheap/" and 32 hex digits. It answers only peers with its own effective user id or root
 * (SO_PEERCRED); a client checks the server the same way, since an abstract name can be taken by
 * anyone. One request, one answer, fixed size.
 */
#ifndef PHEAP_AGENT_CONTROL_H
#define PHEAP_AGENT_CONTROL_H

#include <stdint.h>
#include "core/base/status.h"

enum control_request_kind {
    CONTROL_STATUS = 1,     /* who are you; STATUS_ENDED: the program has ended a moment ago */
    CONTROL_CHECKPOINT = 2, /* take one now; answered when it is durable or refused */
    CONTROL_TAKE_OVER = 3,  /* from the same pid after an exec: let go of the pool and end */
    CONTROL_UNTRACK = 4,    /* from the program (agent_request): stop tracking [start, end) */
    CONTROL_YIELD = 5,      /* I want the pool: answered with 0 when it is free, because the program
                               has ended; with STATUS_IN_USE while it runs */
    CONTROL_PIN = 6,        /* generation `start`: pool_pin() */
    CONTROL_UNPIN = 7,
    CONTROL_DROP = 8, /* pool_drop() */
};

enum control_request_flags {
    CONTROL_PIN_IT = 1u << 0,      /* with CONTROL_CHECKPOINT: the generation is pinned */
    CONTROL_CARRY_FILES = 1u << 1, /* with it: this one and all later ones are self-contained */
};

struct control_request {
    uint32_t kind;
    uint32_t flags;
    uint64_t start, end;
};

struct control_answer {
    int32_t status;           /* 0 or negative */
    int32_t pid;              /* of the program */
    uint64_t generation;      /* newest committed */
    uint64_t pause_ns;        /* of that one */
    uint64_t written_bytes;   /* pages, index, record */
    uint64_t page_bytes;      /* of these, pages */
    uint64_t rewritten_bytes; /* beside these, to keep a restore fast */
    uint64_t checkpoints;     /* taken by this agent */
    uint64_t deferred;        /* given up, to be tried again */
    int32_t agent_pid;        /* as the client sees it */
    uint32_t reserved;
    char tracking[64];
    char storage[64]; /* how the pool is written: "dax", "file", and why so */
    char text[256];   /* of the status */
};

/* Client side, for tools and preload. uuid: 16 bytes. 0 and *answer, or -ECONNREFUSED when nobody
 * listens, -EACCES when the listener is another user's. timeout_ms < 0: wait for ever. */
MUST_CHECK int control_ask(const uint8_t uuid[16], const struct control_request *request,
                           struct control_answer *answer, int timeout_ms);

#endif
