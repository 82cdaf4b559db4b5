/*
 * process_record_sockets.c - the sockets of a record, written and read back, and those that lie.
 */
#include "t/lib/record_fixture.h"

static void a_socket_is_read_with_its_options(void)
{
    struct record_socket socket = tcp_socket();
    struct process_image image;

    put_basic(1);
    put_socket(&socket, AF_INET);
    put_option(0, SOL_SOCKET, 4);
    put_socket_description(0, 0);
    CHECK_EQ(read_back(&image), 0);
    CHECK_EQ(image.socket_count, 1);
    CHECK_EQ(image.sockets[0].option_count, 1);
    CHECK_EQ(image.sockets[0].options[0].value[0], 1);
    CHECK_EQ(image.sockets[0].address[0], AF_INET);
}

static void impossible_sockets_are_refused(void)
{
    struct record_socket bad[12];
    uint32_t count = 0;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        bad[i] = tcp_socket();
    bad[count++].id = 1;
    bad[count++].state = 0;
    bad[count++].state = SOCKET_CONNECTED + 1;
    bad[count++].state = SOCKET_ENDED; /* of a Unix socket only */
    bad[count++].family = AF_INET6;    /* the address is not */
    bad[count++].family = AF_PACKET;
    bad[count++].type = SOCK_RAW;
    bad[count++].protocol = IPPROTO_UDP;
    bad[count++].other_end = 0;
    bad[count++].shutdown = 4;
    bad[count++].address_bytes = sizeof(struct sockaddr_in) - 1;
    bad[count++].address_bytes = 0xfffffff0; /* with peer_bytes the sum wraps */
    bad[count - 1].peer_bytes = 0x50;
    for (uint32_t i = 0; i < count; i++) {
        put_basic(1);
        put_socket(&bad[i], AF_INET);
        put_socket_description(0, 0);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
    }
}

static void sockets_that_do_not_fit_the_rest_are_refused(void)
{
    struct record_socket socket = tcp_socket();
    struct record_socket_message message = {.socket = 0};

    put_basic(1);
    put_socket(&socket, AF_INET);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* of no description */
    put_socket_description(0, 1);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* of no socket */
    put_basic(1);
    put_socket(&socket, AF_INET);
    put_socket_description(0, 0);
    put_socket_description(1, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* of two descriptions */
    for (int i = 0; i < 3; i++) {
        put_basic(1);
        put_socket(&socket, AF_INET);
        put_option(i == 0, i == 1 ? 4711 : SOL_SOCKET, i == 2 ? 5 : 4);
        put_socket_description(0, 0);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
    }
    put_basic(1);
    put_socket(&socket, AF_INET);
    record_put(&writer, RECORD_SOCKET_MESSAGE, &message, sizeof message, "text", 4);
    put_socket_description(0, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* unread in a listening socket */
}

/* A connected socket, with a connection of so many bytes in its queues or without one. */
static int read_connection(const struct record_socket *socket,
                           const struct record_socket_connection *connection, size_t tail_bytes)
{
    put_basic(1);
    put_socket(socket, AF_INET);
    if (connection != NULL)
        record_put(&writer, RECORD_SOCKET_CONNECTION, connection, sizeof *connection, "12345678",
                   tail_bytes);
    put_socket_description(0, 0);
    return read_status();
}

static void a_connection_must_fit_its_socket_and_its_queues(void)
{
    const struct record_socket_connection good = {
        .receive_bytes = 3, .send_bytes = 5, .unsent_bytes = 2};
    struct record_socket_connection bad[] = {good, good, good, good};
    struct record_socket listening = tcp_socket(), connected = tcp_socket(), lonely;

    connected.state = SOCKET_CONNECTED;
    lonely = connected;
    connected.peer_bytes = connected.address_bytes;
    bad[0].socket = 1;
    bad[1].receive_bytes = 4;
    bad[2].unsent_bytes = 6;
    bad[3].receive_bytes = 0xfffffffe; /* with the others the sum wraps */
    bad[3].send_bytes = 10;
    CHECK_EQ(read_connection(&connected, &good, 8), 0);
    CHECK_EQ(read_connection(&connected, NULL, 0), STATUS_DAMAGED);
    CHECK_EQ(read_connection(&lonely, &good, 8), STATUS_DAMAGED);
    CHECK_EQ(read_connection(&listening, &good, 8), STATUS_DAMAGED);
    CHECK_EQ(read_connection(&connected, &good, 7), STATUS_DAMAGED);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(read_connection(&connected, &bad[i], 8), STATUS_DAMAGED);
}

/* Ends of pairs, each naming a description. */
static int read_pair(uint32_t first, uint32_t second, uint32_t second_type)
{
    struct record_socket socket = {
        .state = SOCKET_PAIR, .family = AF_UNIX, .type = SOCK_STREAM, .other_end = first};

    put_basic(1);
    put_socket(&socket, AF_UNIX);
    put_socket_description(0, 0);
    socket.id = 1;
    socket.other_end = second;
    socket.type = second_type;
    put_socket(&socket, AF_UNIX);
    put_socket_description(1, 1);
    return read_status();
}

static void ends_of_pairs_must_name_each_other(void)
{
    CHECK_EQ(read_pair(1, 0, SOCK_STREAM), 0);
    CHECK_EQ(read_pair(1, 1, SOCK_STREAM), STATUS_DAMAGED);
    CHECK_EQ(read_pair(0, 0, SOCK_STREAM), STATUS_DAMAGED);
    CHECK_EQ(read_pair(7, 0, SOCK_STREAM), STATUS_DAMAGED);
    CHECK_EQ(read_pair(1, 0, SOCK_DGRAM), STATUS_DAMAGED);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (arena_create(&arena, 128 << 20) != 0)
        return 1;
    RUN(a_socket_is_read_with_its_options);
    RUN(impossible_sockets_are_refused);
    RUN(sockets_that_do_not_fit_the_rest_are_refused);
    RUN(a_connection_must_fit_its_socket_and_its_queues);
    RUN(ends_of_pairs_must_name_each_other);
    arena_destroy(&arena);
    return tap_done();
}
