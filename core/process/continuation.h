/*
 * continuation.h - how an interrupted system call goes on with other arguments.
 *
 * The agent puts a struct continuation below the red zone of the stopped thread's stack, sets rsp
 * to it and rip just behind the `syscall` instruction of continuation.S, and leaves -ERESTARTNOHAND
 * in rax: the kernel steps back onto that instruction and issues the call from there. When it
 * returns, continuation_next() - in the thread itself - says whether another call follows;
 * at the end every register is as after the program's own call, and the thread is where it
 * was.
 *
 * Three kinds:
 *   CONTINUATION_TIMED     the same call with the time that is left (epoll_wait, semtimedop ...)
 *   CONTINUATION_TRANSFER  the rest of a transfer; the counts are added
 *   CONTINUATION_POLLED    ppoll() with a socket's own timeout, then the call with MSG_DONTWAIT,
 *                          in turn, until it is done (SO_RCVTIMEO, SO_SNDTIMEO)
 *
 * Kept on the program's stack, so the image holds it and it goes on after a restore.
 */
#ifndef PHEAP_PROCESS_CONTINUATION_H
#define PHEAP_PROCESS_CONTINUATION_H

#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define CONTINUATION_MAGIC    0x70686561702d6374ull
#define CONTINUATION_IOVS_MAX 1024 /* UIO_MAXIOV */

enum continuation_kind {
    CONTINUATION_TIMED = 1,
    CONTINUATION_TRANSFER,
    CONTINUATION_POLLED,
};

/* Which arguments move when a part of a transfer is done. */
enum continuation_advance {
    ADVANCE_NONE,    /* no transfer: whatever the call returns is the result */
    ADVANCE_BUFFER,  /* (fd, buffer, bytes): write, sendto, recvfrom, read */
    ADVANCE_FIRST,   /* (buffer, bytes): getrandom */
    ADVANCE_COUNT,   /* the fourth: sendfile */
    ADVANCE_VECTOR,  /* (fd, iov, count): writev */
    ADVANCE_MESSAGE, /* msg.msg_iov: sendmsg, recvmsg */
    ADVANCE_HEADERS, /* (fd, mmsghdr, count): sendmmsg, recvmmsg; counts headers, not bytes */
};

struct continuation {
    /* continuation.S knows the offsets of these */
    uint64_t rip, rsp, eflags;           /* 0: where the program goes on */
    uint64_t rdi, rsi, rdx, r10, r8, r9; /* 24 */
    uint64_t issue_nr, issue_args[6];    /* 72: the next system call */
    int64_t result;                      /* 128 */

    uint64_t magic;
    uint64_t self; /* its own address */
    uint32_t kind;
    uint32_t advance;
    uint32_t polling; /* POLLED: ppoll is in flight, not the call */
    uint32_t timeout_argument;
    uint64_t nr, args[6]; /* the call proper; args as they are now */
    uint64_t total, moved;
    int64_t timeout_result; /* POLLED: what the call returns when the time is over */
    uint64_t deadline_ns;   /* TIMED, CLOCK_MONOTONIC, valid in the epoch of one agent only */
    uint64_t epoch;
    struct timespec timeout;
    struct pollfd poll;
    struct msghdr message;
    uint64_t iov_count, iov_first; /* of the vector behind this struct */
} __attribute__((aligned(16)));

/* The system call's return address in continuation.S. */
extern const char continuation_return[] __attribute__((visibility("hidden")));

/* `count` more are done: moves the arguments. iov: the vector behind the struct, as the caller can
 * reach it. */
void continuation_advance(struct continuation *continuation, struct iovec *iov, uint64_t count);

/* Makes ppoll, or the call proper, the next one issued. */
void continuation_issue_poll(struct continuation *continuation);
void continuation_issue_call(struct continuation *continuation);

/* Called by continuation.S with what the system call returned. 1: issue the next one; 0: done,
 * `result` is set. */
int continuation_next(struct continuation *continuation, int64_t returned);

#endif
