/*
 * process_image_sockets.c - the sockets of a process record, checked.
 *
 * Always true: what is handed to bind() or connect() is an address of the socket's own family and
 * of a length that it can have; what is handed to setsockopt() is an option that is kept; a socket
 * in state SOCKET_CONNECTED has both addresses and its connection.
 */
#include <netinet/in.h>
#include <string.h>
#include "core/process/process_image_reading.h"
#include "core/process/sockets.h"

static bool is_address(const uint8_t *address, uint32_t bytes, uint32_t family)
{
    sa_family_t found;

    if (bytes == 0)
        return true;
    if (bytes < sizeof found)
        return false;
    memcpy(&found, address, sizeof found);
    if (found != family)
        return false;
    if (family == AF_UNIX)
        return bytes > sizeof found && bytes <= sizeof(struct sockaddr_un);
    return bytes == (family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
}

static bool is_possible(const struct record_socket *record)
{
    bool unix_only = record->state == SOCKET_PAIR || record->state == SOCKET_ENDED;

    if (record->state == SOCKET_CONNECTED &&
        (record->protocol != IPPROTO_TCP || record->address_bytes == 0 || record->peer_bytes == 0))
        return false;
    return record->state >= SOCKET_OPEN && record->state <= SOCKET_CONNECTED &&
           socket_is_supported(record) && (!unix_only || record->family == AF_UNIX) &&
           (record->state != SOCKET_PAIR) == (record->other_end == RECORD_ID_NONE) &&
           (record->state != SOCKET_RESET || record->type != SOCK_DGRAM ||
            record->family == AF_UNIX) &&
           record->shutdown <= 3 && record->file_mode <= 07777 &&
           record->address_bytes <= SOCKET_ADDRESS_BYTES &&
           record->peer_bytes <= SOCKET_ADDRESS_BYTES;
}

int read_socket(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_socket *socket = &image->sockets[image->socket_count];
    const struct record_socket *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->id != image->socket_count || !is_possible(record) ||
        reading->item.bytes != sizeof *record + record->address_bytes + record->peer_bytes)
        return damaged(reading, "impossible socket");
    *socket = (struct image_socket){
        .record = record,
        .address = reading->item.payload + sizeof *record,
        .peer = reading->item.payload + sizeof *record + record->address_bytes,
        .options = &image->socket_options[image->socket_option_count],
        .messages = &image->socket_messages[image->socket_message_count],
    };
    if (!is_address(socket->address, record->address_bytes, record->family) ||
        !is_address(socket->peer, record->peer_bytes, record->family))
        return damaged(reading, "impossible address of a socket");
    image->socket_count++;
    return 0;
}

/* The socket that an item follows, if it names that one. */
static struct image_socket *last_socket(struct reading *reading, uint32_t id)
{
    struct process_image *image = reading->image;

    return image->socket_count > 0 && id == image->socket_count - 1 ? &image->sockets[id] : NULL;
}

int read_socket_option(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_socket_option *record = record_fixed(&reading->item, sizeof *record);
    struct image_socket *socket = record != NULL ? last_socket(reading, record->socket) : NULL;

    if (socket == NULL ||
        !socket_option_is_known(record, reading->item.bytes - (uint32_t)sizeof *record))
        return damaged(reading, "impossible option of a socket");
    image->socket_options[image->socket_option_count++] = (struct image_socket_option){
        .record = record, .value = reading->item.payload + sizeof *record};
    socket->option_count++;
    return 0;
}

int read_socket_message(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_socket_message *record = record_fixed(&reading->item, sizeof *record);
    struct image_socket *socket = record != NULL ? last_socket(reading, record->socket) : NULL;

    if (socket == NULL ||
        (socket->record->state != SOCKET_PAIR && socket->record->state != SOCKET_ENDED))
        return damaged(reading, "what is unread of an unknown socket");
    image->socket_messages[image->socket_message_count++] =
        (struct image_socket_message){.content = reading->item.payload + sizeof *record,
                                      .bytes = reading->item.bytes - (uint32_t)sizeof *record};
    socket->message_count++;
    return 0;
}

int read_socket_connection(struct reading *reading)
{
    const struct record_socket_connection *record = record_fixed(&reading->item, sizeof *record);
    struct image_socket *socket = record != NULL ? last_socket(reading, record->socket) : NULL;

    if (socket == NULL || socket->record->state != SOCKET_CONNECTED || socket->connection != NULL ||
        record->unsent_bytes > record->send_bytes ||
        (uint64_t)record->receive_bytes + record->send_bytes + sizeof *record !=
            reading->item.bytes)
        return damaged(reading, "impossible TCP connection");
    socket->connection = record;
    socket->unread = reading->item.payload + sizeof *record;
    socket->unacknowledged = socket->unread + record->receive_bytes;
    return 0;
}

/* id is the socket of description number `description`. */
static bool is_pair(const struct process_image *image, uint32_t id, uint32_t description)
{
    const struct record_socket *record = image->sockets[id].record, *other;
    uint32_t other_id;

    if (record->other_end >= image->description_count || record->other_end == description ||
        image->descriptions[record->other_end].record->kind != DESCRIPTION_SOCKET ||
        image->descriptions[record->other_end].record->value >= image->socket_count)
        return false;
    other_id = (uint32_t)image->descriptions[record->other_end].record->value;
    other = image->sockets[other_id].record;
    return other->state == SOCKET_PAIR && other->other_end == description &&
           other->type == record->type;
}

int check_sockets(struct reading *reading)
{
    const struct process_image *image = reading->image;
    uint32_t sockets = 0;

    for (uint32_t i = 0; i < image->description_count; i++) {
        const struct record_description *record = image->descriptions[i].record;

        if (record->kind != DESCRIPTION_SOCKET)
            continue;
        if (sockets >= image->socket_count || record->value != sockets)
            return damaged(reading, "description of an unknown socket");
        if (image->sockets[sockets].record->state == SOCKET_PAIR && !is_pair(image, sockets, i))
            return damaged(reading, "end of an unknown socket pair");
        if ((image->sockets[sockets].record->state == SOCKET_CONNECTED) !=
            (image->sockets[sockets].connection != NULL))
            return damaged(reading, "TCP connection without its state");
        sockets++;
    }
    return sockets == image->socket_count ? 0 : damaged(reading, "socket without a description");
}
