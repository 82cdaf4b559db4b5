/*
 * continuation.c - the part of a continuation that runs in the program's thread, see
 * continuation.h.
 *
 * Must stay free of calls, vector registers and thread-local storage: the thread is between two
 * instructions of a program that expects all of them as they were (the Makefile compiles this file
 * with GENERAL_REGS).
 */
#include "core/process/continuation.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

_Static_assert(offsetof(struct continuation, rdi) == 24, "continuation.S");
_Static_assert(offsetof(struct continuation, issue_nr) == 72, "continuation.S");
_Static_assert(offsetof(struct continuation, result) == 128, "continuation.S");
_Static_assert(sizeof(struct continuation) % 16 == 0, "the stack stays aligned");

static void advance_vector(struct continuation *continuation, struct iovec *iov, uint64_t count)
{
    uint64_t i = continuation->iov_first;

    for (; i < continuation->iov_count && count >= iov[i].iov_len; i++)
        count -= iov[i].iov_len;
    if (i < continuation->iov_count) {
        iov[i].iov_base = (char *)iov[i].iov_base + count;
        iov[i].iov_len -= count;
    }
    continuation->iov_first = i;
}

void continuation_advance(struct continuation *continuation, struct iovec *iov, uint64_t count)
{
    struct iovec *there = (struct iovec *)(continuation->self + sizeof *continuation);

    continuation->moved += count;
    switch ((enum continuation_advance)continuation->advance) {
    case ADVANCE_NONE:
        break;
    case ADVANCE_BUFFER:
        continuation->args[1] += count;
        continuation->args[2] -= count;
        break;
    case ADVANCE_FIRST:
        continuation->args[0] += count;
        continuation->args[1] -= count;
        break;
    case ADVANCE_COUNT:
        continuation->args[3] -= count;
        break;
    case ADVANCE_VECTOR:
        advance_vector(continuation, iov, count);
        continuation->args[1] = (uint64_t)(there + continuation->iov_first);
        continuation->args[2] = continuation->iov_count - continuation->iov_first;
        break;
    case ADVANCE_MESSAGE:
        advance_vector(continuation, iov, count);
        if (count > 0) { /* went with the first part */
            continuation->message.msg_control = NULL;
            continuation->message.msg_controllen = 0;
        }
        continuation->message.msg_iov = there + continuation->iov_first;
        continuation->message.msg_iovlen = continuation->iov_count - continuation->iov_first;
        break;
    case ADVANCE_HEADERS:
        continuation->args[1] += count * sizeof(struct mmsghdr);
        continuation->args[2] -= count;
        break;
    }
}

void continuation_issue_poll(struct continuation *continuation)
{
    const uint64_t self = continuation->self;

    continuation->polling = 1;
    continuation->issue_nr = SYS_ppoll;
    continuation->issue_args[0] = self + offsetof(struct continuation, poll);
    continuation->issue_args[1] = 1;
    /* the kernel keeps the time that is left up to date in there */
    continuation->issue_args[2] = self + offsetof(struct continuation, timeout);
    continuation->issue_args[3] = 0;
    continuation->issue_args[4] = 0;
    continuation->issue_args[5] = 0;
}

void continuation_issue_call(struct continuation *continuation)
{
    continuation->polling = 0;
    continuation->issue_nr = continuation->nr;
    for (int i = 0; i < 6; i++)
        continuation->issue_args[i] = continuation->args[i];
}

/* What was moved before an error counts, as with the kernel's own transfers: the error shows at
 * the next call. */
static int finish(struct continuation *continuation, int64_t returned)
{
    if (continuation->advance != ADVANCE_NONE && continuation->moved > 0)
        returned = (int64_t)continuation->moved + (returned > 0 ? returned : 0);
    continuation->result = returned;
    return 0;
}

int continuation_next(struct continuation *continuation, int64_t returned)
{
    struct iovec *iov = (struct iovec *)(continuation + 1);

    if (continuation->kind != CONTINUATION_POLLED)
        return finish(continuation, returned);
    if (continuation->polling) {
        if (returned <= 0)
            return finish(continuation, returned < 0 ? returned : continuation->timeout_result);
        continuation_issue_call(continuation);
        return 1;
    }
    if (returned > 0 && continuation->advance != ADVANCE_NONE &&
        continuation->moved + (uint64_t)returned < continuation->total)
        continuation_advance(continuation, iov, (uint64_t)returned);
    else if (returned != -EAGAIN)
        return finish(continuation, returned);
    continuation_issue_poll(continuation);
    return 1;
}
