/*
 * socket_diag.c - asks the kernel's socket diagnosis (NETLINK_SOCK_DIAG) about one Unix socket: its
 * other end, its backlog and what has been shut down are told nowhere else.
 *
 * Always true: the answer is read within the bytes that came; one question is under way at a time.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include "core/process/sockets.h"

#define ANSWER_BYTES 1024

static int diagnosis(struct descriptor_run *run)
{
    if (run->diag_fd < 0)
        run->diag_fd =
            (int)sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    return run->diag_fd;
}

static long ask(int fd, uint32_t inode, uint8_t *answer)
{
    struct {
        struct nlmsghdr header;
        struct unix_diag_req request;
    } question = {
        .header = {.nlmsg_len = sizeof question,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = AF_UNIX,
                    .udiag_states = ~0u,
                    .udiag_ino = inode,
                    .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_VFS,
                    .udiag_cookie = {~0u, ~0u}},
    };
    long sent = sys_call(SYS_sendto, fd, &question, sizeof question, 0, 0, 0);

    return sent < 0 ? sent : sys_call(SYS_recvfrom, fd, answer, ANSWER_BYTES, 0, 0, 0);
}

static void take_attribute(struct unix_socket_state *out, const struct nlattr *attribute)
{
    uint32_t bytes = attribute->nla_len - (uint32_t)sizeof *attribute;
    uint32_t words[2] = {0};

    memcpy(words, attribute + 1, bytes < sizeof words ? bytes : sizeof words);
    switch (attribute->nla_type) {
    case UNIX_DIAG_PEER:
        out->connected = true;
        out->peer_inode = words[0];
        break;
    case UNIX_DIAG_RQLEN:
        out->backlog = words[1]; /* "wqueue", of a listening socket */
        break;
    case UNIX_DIAG_VFS:
        out->file_inode = words[0];
        break;
    case UNIX_DIAG_SHUTDOWN:
        out->shutdown = words[0] & 3;
        break;
    default:
        break;
    }
}

static int take_answer(const uint8_t *answer, size_t bytes, struct unix_socket_state *out)
{
    const struct nlmsghdr *header = (const void *)answer;
    const struct unix_diag_msg *message = (const void *)(header + 1);
    size_t at = sizeof *header + sizeof *message;

    if (bytes < sizeof *header || header->nlmsg_len > bytes)
        return -EPROTO;
    if (header->nlmsg_type == NLMSG_ERROR)
        return bytes >= sizeof *header + sizeof(int) ? *(const int *)(const void *)(header + 1)
                                                     : -EPROTO;
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < at)
        return -EPROTO;
    out->state = message->udiag_state;
    while (at + sizeof(struct nlattr) <= header->nlmsg_len) {
        const struct nlattr *attribute = (const void *)(answer + at);

        if (attribute->nla_len < sizeof *attribute || attribute->nla_len > header->nlmsg_len - at)
            return -EPROTO;
        take_attribute(out, attribute);
        at += NLA_ALIGN(attribute->nla_len);
    }
    return 0;
}

int socket_diag_unix(struct descriptor_run *run, uint32_t inode, struct unix_socket_state *out)
{
    uint8_t answer[ANSWER_BYTES] __attribute__((aligned(8)));
    int fd = diagnosis(run);
    long got = fd < 0 ? fd : ask(fd, inode, answer);

    *out = (struct unix_socket_state){0};
    return got < 0 ? (int)got : take_answer(answer, (size_t)got, out);
}
