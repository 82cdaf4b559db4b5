/*
 * client.c - see client.h. What a client sends is not trusted: lengths are bounded before they are
 * used.
 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (64u << 20)

void buffer_reserve(struct buffer *buffer, size_t bytes)
{
    size_t room = buffer->room ? buffer->room : 4096;

    while (room - buffer->used < bytes)
        room *= 2;
    if (room == buffer->room)
        return;
    buffer->bytes = realloc(buffer->bytes, room);
    if (!buffer->bytes) {
        fprintf(stderr, "keyvalue: out of memory\n");
        abort();
    }
    buffer->room = room;
}

static void put(struct client *client, const char *bytes, size_t length)
{
    buffer_reserve(&client->out, length);
    memcpy(client->out.bytes + client->out.used, bytes, length);
    client->out.used += length;
}

static void put_line(struct client *client, char kind, int64_t number)
{
    char line[32];

    put(client, line, (size_t)snprintf(line, sizeof line, "%c%lld\r\n", kind, (long long)number));
}

void reply_simple(struct client *client, const char *text)
{
    put(client, text, strlen(text));
    put(client, "\r\n", 2);
}

void reply_error(struct client *client, const char *text)
{
    put(client, "-", 1);
    reply_simple(client, text);
}

void reply_number(struct client *client, int64_t number)
{
    put_line(client, ':', number);
}

void reply_text(struct client *client, struct text text)
{
    put_line(client, '$', (int64_t)text.length);
    put(client, text.bytes, text.length);
    put(client, "\r\n", 2);
}

void reply_nothing(struct client *client)
{
    put(client, "$-1\r\n", 5);
}

void reply_array(struct client *client, size_t count)
{
    put_line(client, '*', (int64_t)count);
}

/* --- commands --- */

/* The line at *at, which moves behind it. False: its end is not there yet. */
static bool take_line(const struct client *client, size_t *at, struct text *line)
{
    const char *start = client->in.bytes + *at;
    const char *end = memchr(start, '\n', client->in.used - *at);

    if (!end)
        return false;
    *at += (size_t)(end - start) + 1;
    line->bytes = start;
    line->length = (size_t)(end - start);
    if (line->length && line->bytes[line->length - 1] == '\r')
        line->length--;
    return true;
}

/* "*3" or "$5": the number, -1 if it is none or too large. */
static int64_t header_number(struct text line, char kind, int64_t most)
{
    int64_t number = 0;

    if (line.length < 2 || line.bytes[0] != kind)
        return -1;
    for (size_t i = 1; i < line.length; i++) {
        if (line.bytes[i] < '0' || line.bytes[i] > '9' || number > most)
            return -1;
        number = number * 10 + (line.bytes[i] - '0');
    }
    return number <= most ? number : -1;
}

static void add_word(struct client *client, const char *bytes, size_t length)
{
    if (client->word_count == client->word_room) {
        client->word_room = client->word_room ? 2 * client->word_room : 16;
        client->words = realloc(client->words, client->word_room * sizeof *client->words);
        if (!client->words)
            abort();
    }
    client->words[client->word_count++] = (struct text){bytes, length};
}

/* What a person types into a telnet: words with blanks between them. */
static int inline_command(struct client *client, struct text line)
{
    size_t at = 0, start;

    while (at < line.length) {
        for (; at < line.length && line.bytes[at] == ' '; at++)
            ;
        for (start = at; at < line.length && line.bytes[at] != ' '; at++)
            ;
        if (at > start)
            add_word(client, line.bytes + start, at - start);
    }
    return 1;
}

int client_next_command(struct client *client)
{
    size_t at = client->taken;
    struct text line;
    int64_t count, length;

    client->word_count = 0;
    if (at == client->in.used || !take_line(client, &at, &line))
        return client->in.used - client->taken > TEXT_MAX ? -1 : 0;
    if (line.length == 0 || line.bytes[0] != '*') {
        client->taken = at;
        return inline_command(client, line);
    }
    count = header_number(line, '*', WORDS_MAX);
    if (count < 0)
        return -1;
    for (int64_t i = 0; i < count; i++) {
        if (!take_line(client, &at, &line))
            return 0;
        length = header_number(line, '$', TEXT_MAX);
        if (length < 0)
            return -1;
        if (client->in.used - at < (size_t)length + 2)
            return 0;
        add_word(client, client->in.bytes + at, (size_t)length);
        at += (size_t)length + 2;
    }
    client->taken = at;
    return 1;
}

void client_forget_commands(struct client *client)
{
    memmove(client->in.bytes, client->in.bytes + client->taken, client->in.used - client->taken);
    client->in.used -= client->taken;
    client->taken = 0;
}
