/*
 * client.h - one connection: its bytes in and out, and the Redis protocol (RESP 2) over them.
 */
#ifndef KEYVALUE_CLIENT_H
#define KEYVALUE_CLIENT_H

#include "store.h"

#define WORDS_MAX 1048576u

struct buffer {
    char *bytes;
    size_t used, room;
};

struct client {
    int fd;
    struct buffer in, out;
    size_t taken;       /* of `in`: commands that were done */
    size_t sent;        /* of `out` */
    struct text *words; /* of the command that is being done; they point into `in` */
    size_t word_count, word_room;
    bool ends; /* when all is sent */
};

/* The next whole command into client->words. 1; 0: not all of it is there; -1: not the protocol. */
int client_next_command(struct client *client);
/* What was done is forgotten. */
void client_forget_commands(struct client *client);

void reply_simple(struct client *client, const char *text); /* "+OK" */
void reply_error(struct client *client, const char *text);  /* without the "-" */
void reply_number(struct client *client, int64_t number);
void reply_text(struct client *client, struct text text);
void reply_nothing(struct client *client);
void reply_array(struct client *client, size_t count); /* and then so many replies */

/* At least so many bytes of room behind what is used. */
void buffer_reserve(struct buffer *buffer, size_t bytes);

#endif
