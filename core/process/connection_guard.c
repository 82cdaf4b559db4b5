/*
 * connection_guard.c - while a program with kept connections is away, what comes in for them is
 * dropped by the kernel's packet filter: one table per pool and address family, with a rule for
 * each connection.
 *
 * The table is the network namespace's: it outlives us and goes with the namespace, at the next
 * boot, or by guard_remove(). nf_tables is spoken to directly (NETLINK_NETFILTER), since neither
 * the agent can start a program nor is one there everywhere.
 *
 * Always true: a rule drops what has all of the connection's addresses and ports, and nothing else.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/connections.h"

#define MESSAGE_BYTES 4096
#define ANSWER_BYTES  4096
#define CHAIN         "input"
#define PRIORITY      (-400) /* before connection tracking */

struct message {
    uint8_t bytes[MESSAGE_BYTES];
    uint32_t used;
    uint32_t header; /* where the present message begins */
};

/* The packets of one connection, as they come in: family, then what of its header to compare. */
struct incoming {
    uint8_t family; /* NFPROTO_IPV4 or NFPROTO_IPV6 */
    uint8_t source[16], destination[16];
    uint8_t ports[4];
};

static void put(struct message *message, const void *bytes, uint32_t count)
{
    uint32_t padded = NLMSG_ALIGN(count);

    if (padded > MESSAGE_BYTES - message->used)
        return; /* a rule takes some 600 bytes */
    memset(message->bytes + message->used, 0, padded);
    if (count > 0)
        memcpy(message->bytes + message->used, bytes, count);
    message->used += padded;
}

static void begin(struct message *message, uint16_t type, uint16_t flags, uint8_t family,
                  uint16_t resource)
{
    const struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
    const struct nfgenmsg more = {.nfgen_family = family, .res_id = htons(resource)};

    message->header = message->used;
    put(message, &header, sizeof header);
    put(message, &more, sizeof more);
}

static void end(struct message *message)
{
    uint32_t bytes = message->used - message->header;

    memcpy(message->bytes + message->header, &bytes, sizeof bytes);
}

static void attribute(struct message *message, uint16_t type, const void *value, uint32_t count)
{
    const struct nlattr header = {(uint16_t)(sizeof header + count), type};

    put(message, &header, sizeof header);
    put(message, value, count);
}

static void text(struct message *message, uint16_t type, const char *value)
{
    attribute(message, type, value, (uint32_t)strlen(value) + 1);
}

static void number(struct message *message, uint16_t type, uint32_t value)
{
    uint32_t in_order = htonl(value);

    attribute(message, type, &in_order, sizeof in_order);
}

static uint32_t open_nest(struct message *message, uint16_t type)
{
    uint32_t at = message->used;

    attribute(message, type | NLA_F_NESTED, NULL, 0);
    return at;
}

static void close_nest(struct message *message, uint32_t at)
{
    uint16_t bytes = (uint16_t)(message->used - at);

    memcpy(message->bytes + at, &bytes, sizeof bytes);
}

/* --- expressions of a rule --- */

struct expression {
    uint32_t element, data;
};

static struct expression open_expression(struct message *message, const char *name)
{
    struct expression expression = {.element = open_nest(message, NFTA_LIST_ELEM)};

    text(message, NFTA_EXPR_NAME, name);
    expression.data = open_nest(message, NFTA_EXPR_DATA);
    return expression;
}

static void close_expression(struct message *message, struct expression expression)
{
    close_nest(message, expression.data);
    close_nest(message, expression.element);
}

/* The rule goes on where the register has these bytes. */
static void compare(struct message *message, const void *bytes, uint32_t count)
{
    struct expression expression = open_expression(message, "cmp");
    uint32_t nest;

    number(message, NFTA_CMP_SREG, NFT_REG_1);
    number(message, NFTA_CMP_OP, NFT_CMP_EQ);
    nest = open_nest(message, NFTA_CMP_DATA);
    attribute(message, NFTA_DATA_VALUE, bytes, count);
    close_nest(message, nest);
    close_expression(message, expression);
}

static void match_header(struct message *message, uint32_t base, uint32_t offset, const void *bytes,
                         uint32_t count)
{
    struct expression expression = open_expression(message, "payload");

    number(message, NFTA_PAYLOAD_DREG, NFT_REG_1);
    number(message, NFTA_PAYLOAD_BASE, base);
    number(message, NFTA_PAYLOAD_OFFSET, offset);
    number(message, NFTA_PAYLOAD_LEN, count);
    close_expression(message, expression);
    compare(message, bytes, count);
}

static void match_tcp(struct message *message)
{
    const uint8_t tcp = IPPROTO_TCP;
    struct expression expression = open_expression(message, "meta");

    number(message, NFTA_META_DREG, NFT_REG_1);
    number(message, NFTA_META_KEY, NFT_META_L4PROTO);
    close_expression(message, expression);
    compare(message, &tcp, sizeof tcp);
}

static void drop(struct message *message)
{
    struct expression expression = open_expression(message, "immediate");
    uint32_t data, verdict;

    number(message, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    data = open_nest(message, NFTA_IMMEDIATE_DATA);
    verdict = open_nest(message, NFTA_DATA_VERDICT);
    number(message, NFTA_VERDICT_CODE, NF_DROP);
    close_nest(message, verdict);
    close_nest(message, data);
    close_expression(message, expression);
}

/* --- messages --- */

static uint16_t kind(uint16_t type)
{
    return (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
}

static void put_table(struct message *message, uint16_t type, uint8_t family, const char *name)
{
    begin(message, kind(type), type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0, family, 0);
    text(message, NFTA_TABLE_NAME, name);
    end(message);
}

static void put_chain(struct message *message, uint8_t family, const char *name)
{
    uint32_t hook;

    begin(message, kind(NFT_MSG_NEWCHAIN), NLM_F_CREATE, family, 0);
    text(message, NFTA_CHAIN_TABLE, name);
    text(message, NFTA_CHAIN_NAME, CHAIN);
    hook = open_nest(message, NFTA_CHAIN_HOOK);
    number(message, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN);
    number(message, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
    close_nest(message, hook);
    text(message, NFTA_CHAIN_TYPE, "filter");
    end(message);
}

static void put_rule(struct message *message, const char *name, const struct incoming *packet)
{
    bool six = packet->family == NFPROTO_IPV6;
    uint32_t bytes = six ? 16 : 4, expressions;

    begin(message, kind(NFT_MSG_NEWRULE), NLM_F_CREATE | NLM_F_APPEND, packet->family, 0);
    text(message, NFTA_RULE_TABLE, name);
    text(message, NFTA_RULE_CHAIN, CHAIN);
    expressions = open_nest(message, NFTA_RULE_EXPRESSIONS);
    match_tcp(message);
    match_header(message, NFT_PAYLOAD_NETWORK_HEADER, six ? 8 : 12, packet->source, bytes);
    match_header(message, NFT_PAYLOAD_NETWORK_HEADER, six ? 24 : 16, packet->destination, bytes);
    match_header(message, NFT_PAYLOAD_TRANSPORT_HEADER, 0, packet->ports, sizeof packet->ports);
    drop(message);
    close_nest(message, expressions);
    end(message);
}

/* The kernel has done it, or said why not, when the call returns. */
static int answers(int fd)
{
    uint8_t answer[ANSWER_BYTES] __attribute__((aligned(8)));
    const struct nlmsghdr *header = (const void *)answer;
    const struct nlmsgerr *error = (const void *)(header + 1);
    int status = 0;
    long got;

    while ((got = sys_call(SYS_recvfrom, fd, answer, sizeof answer, MSG_DONTWAIT, 0, 0)) > 0)
        if ((size_t)got >= sizeof *header + sizeof error->error &&
            header->nlmsg_type == NLMSG_ERROR && status == 0)
            status = error->error;
    return got == -EAGAIN ? status : got < 0 ? (int)got : -EPROTO;
}

static void begin_batch(struct message *message)
{
    message->used = 0;
    begin(message, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    end(message);
}

static int send_batch(int fd, struct message *message)
{
    long sent;

    begin(message, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    end(message);
    sent = sys_call(SYS_sendto, fd, message->bytes, message->used, 0, 0, 0);
    return sent < 0 ? (int)sent : answers(fd);
}

static int open_filter(void)
{
    return (int)sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
}

static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};

/* A table of each family; one that is there from an earlier end goes first. */
static int remove_tables(int fd, const char *name)
{
    struct message message;
    int status = 0;

    for (size_t i = 0; i < sizeof families && status == 0; i++) {
        begin_batch(&message);
        put_table(&message, NFT_MSG_DELTABLE, families[i], name);
        status = send_batch(fd, &message);
        if (status == -ENOENT)
            status = 0;
    }
    return status;
}

static int make_tables(int fd, const char *name)
{
    struct message message;

    begin_batch(&message);
    for (size_t i = 0; i < sizeof families; i++) {
        put_table(&message, NFT_MSG_NEWTABLE, families[i], name);
        put_chain(&message, families[i], name);
    }
    return send_batch(fd, &message);
}

/* --- which packets --- */

struct end {
    const uint8_t *address; /* 4 or 16 bytes */
    uint16_t port;
    bool six;
};

static struct end end_of(const struct sockaddr_in6 *address)
{
    const struct sockaddr_in *four = (const void *)address;
    const uint8_t *bytes = address->sin6_addr.s6_addr;

    if (address->sin6_family == AF_INET)
        return (struct end){(const uint8_t *)&four->sin_addr, four->sin_port, false};
    if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr))
        return (struct end){bytes + 12, address->sin6_port, false};
    return (struct end){bytes, address->sin6_port, true};
}

static int incoming_of(int fd, struct incoming *packet)
{
    struct sockaddr_in6 here = {0}, there = {0};
    uint32_t here_bytes = sizeof here, there_bytes = sizeof there;
    long status = sys_call(SYS_getsockname, fd, &here, &here_bytes);
    struct end to, from;

    if (status == 0)
        status = sys_call(SYS_getpeername, fd, &there, &there_bytes);
    if (status != 0)
        return (int)status;
    to = end_of(&here);
    from = end_of(&there);
    packet->family = to.six ? NFPROTO_IPV6 : NFPROTO_IPV4;
    memcpy(packet->source, from.address, to.six ? 16 : 4);
    memcpy(packet->destination, to.address, to.six ? 16 : 4);
    memcpy(packet->ports, &from.port, 2);
    memcpy(packet->ports + 2, &to.port, 2);
    return 0;
}

void guard_name(const uint8_t uuid[16], char name[GUARD_NAME_BYTES])
{
    size_t at = format_text(name, GUARD_NAME_BYTES, "pheap_");

    for (int i = 0; i < 16; i++)
        at += format_text(name + at, GUARD_NAME_BYTES - at, "%02x", uuid[i]);
}

static int add_rules(int fd, const char *name, const struct kept_connections *connections)
{
    struct incoming packet = {0};
    struct message message;
    int status = 0;

    for (uint32_t i = 0; i < connections->count && status == 0; i++) {
        status = incoming_of(connections->list[i].fd, &packet);
        if (status == -ENOTCONN) { /* given up by the kernel since: nothing comes in for it */
            status = 0;
            continue;
        }
        if (status != 0)
            break;
        begin_batch(&message);
        put_rule(&message, name, &packet);
        status = send_batch(fd, &message);
    }
    return status;
}

int connections_guard(const struct kept_connections *connections, const uint8_t uuid[16])
{
    char name[GUARD_NAME_BYTES];
    int fd = open_filter(), status;

    if (fd < 0)
        return fd;
    guard_name(uuid, name);
    status = remove_tables(fd, name);
    if (status == 0)
        status = make_tables(fd, name);
    if (status == 0)
        status = add_rules(fd, name, connections);
    (void)sys_close(fd);
    return status;
}

int guard_remove(const uint8_t uuid[16])
{
    char name[GUARD_NAME_BYTES];
    int fd = open_filter(), status;

    if (fd < 0)
        return fd;
    guard_name(uuid, name);
    status = remove_tables(fd, name);
    (void)sys_close(fd);
    return status;
}
