/*
 * commands.h - what clients can ask for.
 */
#ifndef KEYVALUE_COMMANDS_H
#define KEYVALUE_COMMANDS_H

#include "client.h"

struct server {
    struct pheap *heap;
    struct store *store;
    bool ends;         /* SHUTDOWN */
    uint64_t expiring; /* the bucket that is looked at next for keys whose time is over */
};

/*
 * Does the command in client->words and appends its reply. What it changed is committed and not yet
 * durable: pheap_sync() comes before the reply is sent.
 */
void command_do(struct server *server, struct client *client);

/* Removes some of the keys whose time is over. */
void expire_some(struct server *server);

#endif
