/*
 * commands.c - see commands.h. A command that changes something runs as one transaction: it is done
 * as a whole or not at all.
 */
#include "commands.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define EXPIRE_BUCKETS 1000u

/* What a command has at hand. */
struct call {
    struct server *server;
    struct client *client;
    struct change *change; /* NULL: it only reads */
    const struct text *words;
    size_t count;
};

static const char wrong_type[] =
    "WRONGTYPE Operation against a key holding the wrong kind of value";

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_word(struct text text, const char *word)
{
    return text.length == strlen(word) && strncasecmp(text.bytes, word, text.length) == 0;
}

static bool number_of(struct text text, int64_t *number)
{
    char digits[24], *end;

    if (text.length == 0 || text.length >= sizeof digits || isspace((unsigned char)text.bytes[0]))
        return false;
    memcpy(digits, text.bytes, text.length);
    digits[text.length] = 0;
    errno = 0;
    *number = strtoll(digits, &end, 10);
    return *end == 0 && errno == 0;
}

/* --- keys --- */

static bool is_over(const struct entry *entry)
{
    return entry->expires_ms && entry->expires_ms <= now_ms();
}

static struct entry *find(const struct call *call, struct text key)
{
    struct entry *entry = table_find(call->server->store->keys, key);

    return entry && !is_over(entry) ? entry : NULL;
}

/* The value of this kind under a key. False: it is another kind, and that was said. */
static bool look_up(const struct call *call, uint32_t kind, struct entry **entry)
{
    *entry = find(call, call->words[1]);
    if (!*entry || (*entry)->kind == kind)
        return true;
    reply_error(call->client, wrong_type);
    return false;
}

/* The same, but there is one afterwards. */
static bool need(const struct call *call, uint32_t kind, struct entry **entry)
{
    if (!look_up(call, kind, entry))
        return false;
    if (*entry)
        return true;
    *entry = table_put(call->change, call->server->store->keys, call->words[1]);
    entry_set(call->change, *entry, kind,
              kind == VALUE_HASH ? (void *)table_make(call->change) : list_make(call->change));
    return true;
}

static void remove_key(const struct call *call, struct text key)
{
    (void)table_remove(call->change, call->server->store->keys, key);
}

static void reply_string_of(struct client *client, const struct entry *entry)
{
    if (entry)
        reply_text(client, string_text(entry->value));
    else
        reply_nothing(client);
}

static void put_string(const struct call *call, struct text key, struct text value)
{
    struct entry *entry = table_put(call->change, call->server->store->keys, key);

    entry_set(call->change, entry, VALUE_STRING, string_make(call->change, value));
}

static void do_del(const struct call *call)
{
    int64_t removed = 0;

    for (size_t i = 1; i < call->count; i++) {
        removed += find(call, call->words[i]) != NULL;
        remove_key(call, call->words[i]);
    }
    reply_number(call->client, removed);
}

static void do_exists(const struct call *call)
{
    int64_t found = 0;

    for (size_t i = 1; i < call->count; i++)
        found += find(call, call->words[i]) != NULL;
    reply_number(call->client, found);
}

static void do_type(const struct call *call)
{
    static const char *const names[] = {"+none", "+string", "+hash", "+list"};
    const struct entry *entry = find(call, call->words[1]);

    reply_simple(call->client, names[entry ? entry->kind : VALUE_NONE]);
}

static void expire(const struct call *call, int64_t unit_ms)
{
    struct entry *entry = find(call, call->words[1]);
    int64_t time;

    if (!number_of(call->words[2], &time) || time > INT64_MAX / 2000 || time < -INT64_MAX / 2000) {
        reply_error(call->client, "ERR value is not an integer or out of range");
        return;
    }
    if (entry && time <= 0)
        remove_key(call, call->words[1]);
    else if (entry)
        entry_expire(call->change, entry, now_ms() + time * unit_ms);
    reply_number(call->client, entry != NULL);
}

static void do_expire(const struct call *call)
{
    expire(call, 1000);
}

static void do_pexpire(const struct call *call)
{
    expire(call, 1);
}

static void do_persist(const struct call *call)
{
    struct entry *entry = find(call, call->words[1]);
    bool had = entry && entry->expires_ms;

    if (had)
        entry_expire(call->change, entry, 0);
    reply_number(call->client, had);
}

static void reply_time_left(const struct call *call, int64_t unit_ms)
{
    const struct entry *entry = find(call, call->words[1]);

    if (!entry || !entry->expires_ms)
        reply_number(call->client, entry ? -1 : -2);
    else
        reply_number(call->client, (entry->expires_ms - now_ms() + unit_ms - 1) / unit_ms);
}

static void do_ttl(const struct call *call)
{
    reply_time_left(call, 1000);
}

static void do_pttl(const struct call *call)
{
    reply_time_left(call, 1);
}

/* A pattern for fnmatch() has an end, and so has a key: those with a NUL byte match none. */
static bool matches(const char *pattern, struct text key)
{
    char name[1024];

    if (key.length >= sizeof name)
        return false;
    memcpy(name, key.bytes, key.length);
    name[key.length] = 0;
    return fnmatch(pattern, name, 0) == 0;
}

static void do_keys(const struct call *call)
{
    const struct table *table = call->server->store->keys;
    char *pattern = strndup(call->words[1].bytes, call->words[1].length);
    const struct entry *entry;
    size_t count = 0;

    for (int pass = 0; pattern && pass < 2; pass++) { /* the count comes first */
        uint64_t bucket = 0;

        if (pass == 1)
            reply_array(call->client, count);
        for (entry = table_next(table, &bucket, NULL); entry;
             entry = table_next(table, &bucket, entry)) {
            if (entry->expires_ms || !matches(pattern, entry_key(entry)))
                continue; /* one that will end is not listed: it might between the passes */
            count++;
            if (pass == 1)
                reply_text(call->client, entry_key(entry));
        }
    }
    free(pattern);
}

/* --- strings --- */

struct set_options {
    bool only_new, only_old;
    int64_t expires_ms;
};

static bool parse_set(const struct call *call, struct set_options *options)
{
    int64_t number;

    for (size_t i = 3; i < call->count; i++) {
        int64_t unit = is_word(call->words[i], "EX") ? 1000 : is_word(call->words[i], "PX") ? 1 : 0;

        if (is_word(call->words[i], "NX"))
            options->only_new = true;
        else if (is_word(call->words[i], "XX"))
            options->only_old = true;
        else if (unit && i + 1 < call->count && number_of(call->words[++i], &number) &&
                 number > 0 && number < INT64_MAX / 2000)
            options->expires_ms = now_ms() + number * unit;
        else
            return false;
    }
    return !(options->only_new && options->only_old);
}

static void do_set(const struct call *call)
{
    struct set_options options = {0};
    const struct entry *old = find(call, call->words[1]);

    if (!parse_set(call, &options)) {
        reply_error(call->client, "ERR syntax error");
        return;
    }
    if ((options.only_new && old) || (options.only_old && !old)) {
        reply_nothing(call->client);
        return;
    }
    put_string(call, call->words[1], call->words[2]);
    if (options.expires_ms)
        entry_expire(call->change, find(call, call->words[1]), options.expires_ms);
    reply_simple(call->client, "+OK");
}

static void do_get(const struct call *call)
{
    struct entry *entry;

    if (look_up(call, VALUE_STRING, &entry))
        reply_string_of(call->client, entry);
}

static void do_mget(const struct call *call)
{
    reply_array(call->client, call->count - 1);
    for (size_t i = 1; i < call->count; i++) {
        const struct entry *entry = find(call, call->words[i]);

        reply_string_of(call->client, entry && entry->kind == VALUE_STRING ? entry : NULL);
    }
}

static void do_mset(const struct call *call)
{
    if (call->count % 2 == 0) {
        reply_error(call->client, "ERR wrong number of arguments for 'mset' command");
        return;
    }
    for (size_t i = 1; i < call->count; i += 2)
        put_string(call, call->words[i], call->words[i + 1]);
    reply_simple(call->client, "+OK");
}

static void do_strlen(const struct call *call)
{
    struct entry *entry;

    if (look_up(call, VALUE_STRING, &entry))
        reply_number(call->client, entry ? (int64_t)((struct string *)entry->value)->length : 0);
}

/* Adds to the number under a key, or in a hash; what stays besides the value is the caller's. */
static void add_to(const struct call *call, struct table *table, struct text key, int64_t more)
{
    struct entry *entry = table_find(table, key);
    int64_t number = 0, ends = entry ? entry->expires_ms : 0;
    char digits[24];

    if (entry && ends && is_over(entry))
        entry = NULL, ends = 0;
    if (entry && !number_of(string_text(entry->value), &number)) {
        reply_error(call->client, "ERR value is not an integer or out of range");
        return;
    }
    if (__builtin_add_overflow(number, more, &number)) {
        reply_error(call->client, "ERR increment or decrement would overflow");
        return;
    }
    snprintf(digits, sizeof digits, "%lld", (long long)number);
    entry = table_put(call->change, table, key);
    entry_set(call->change, entry, VALUE_STRING,
              string_make(call->change, (struct text){digits, strlen(digits)}));
    if (ends)
        entry_expire(call->change, entry, ends);
    reply_number(call->client, number);
}

static void increment(const struct call *call, bool down)
{
    struct entry *entry;
    int64_t more = 1;

    if (call->count > 2 && (!number_of(call->words[2], &more) || more == INT64_MIN)) {
        reply_error(call->client, "ERR value is not an integer or out of range");
        return;
    }
    if (look_up(call, VALUE_STRING, &entry))
        add_to(call, call->server->store->keys, call->words[1], down ? -more : more);
}

static void do_incr(const struct call *call)
{
    increment(call, false);
}

static void do_decr(const struct call *call)
{
    increment(call, true);
}

/* --- hashes --- */

static void do_hset(const struct call *call)
{
    struct entry *entry, *field;
    int64_t added = 0;

    if (call->count % 2 != 0) {
        reply_error(call->client, "ERR wrong number of arguments for 'hset' command");
        return;
    }
    if (!need(call, VALUE_HASH, &entry))
        return;
    for (size_t i = 2; i < call->count; i += 2) {
        field = table_put(call->change, entry->value, call->words[i]);
        added += field->kind == VALUE_NONE;
        entry_set(call->change, field, VALUE_STRING, string_make(call->change, call->words[i + 1]));
    }
    reply_number(call->client, added);
}

static void do_hget(const struct call *call)
{
    struct entry *entry;

    if (look_up(call, VALUE_HASH, &entry))
        reply_string_of(call->client, entry ? table_find(entry->value, call->words[2]) : NULL);
}

static void do_hexists(const struct call *call)
{
    struct entry *entry;

    if (look_up(call, VALUE_HASH, &entry))
        reply_number(call->client, entry && table_find(entry->value, call->words[2]));
}

static void do_hdel(const struct call *call)
{
    struct entry *entry;
    int64_t removed = 0;

    if (!look_up(call, VALUE_HASH, &entry))
        return;
    for (size_t i = 2; entry && i < call->count; i++)
        removed += table_remove(call->change, entry->value, call->words[i]);
    if (entry && ((struct table *)entry->value)->count == 0)
        remove_key(call, call->words[1]);
    reply_number(call->client, removed);
}

static void do_hlen(const struct call *call)
{
    struct entry *entry;

    if (look_up(call, VALUE_HASH, &entry))
        reply_number(call->client, entry ? (int64_t)((struct table *)entry->value)->count : 0);
}

static void do_hgetall(const struct call *call)
{
    struct entry *entry;
    uint64_t bucket = 0;

    if (!look_up(call, VALUE_HASH, &entry))
        return;
    reply_array(call->client, entry ? 2 * ((struct table *)entry->value)->count : 0);
    for (struct entry *field = entry ? table_next(entry->value, &bucket, NULL) : NULL; field;
         field = table_next(entry->value, &bucket, field)) {
        reply_text(call->client, entry_key(field));
        reply_string_of(call->client, field);
    }
}

static void do_hincrby(const struct call *call)
{
    struct entry *entry;
    int64_t more;

    if (!number_of(call->words[3], &more))
        reply_error(call->client, "ERR value is not an integer or out of range");
    else if (need(call, VALUE_HASH, &entry))
        add_to(call, entry->value, call->words[2], more);
}

/* --- lists --- */

static void push(const struct call *call, bool at_front)
{
    struct entry *entry;

    if (!need(call, VALUE_LIST, &entry))
        return;
    for (size_t i = 2; i < call->count; i++)
        list_push(call->change, entry->value, call->words[i], at_front);
    reply_number(call->client, (int64_t)((struct list *)entry->value)->length);
}

static void do_lpush(const struct call *call)
{
    push(call, true);
}

static void do_rpush(const struct call *call)
{
    push(call, false);
}

static void pop(const struct call *call, bool at_front)
{
    struct entry *entry;
    struct list *list;

    if (!look_up(call, VALUE_LIST, &entry))
        return;
    if (!entry) {
        reply_nothing(call->client);
        return;
    }
    list = entry->value;
    reply_text(call->client, string_text((at_front ? list->first : list->last)->text));
    list_drop(call->change, list, at_front);
    if (list->length == 0)
        remove_key(call, call->words[1]);
}

static void do_lpop(const struct call *call)
{
    pop(call, true);
}

static void do_rpop(const struct call *call)
{
    pop(call, false);
}

static void do_llen(const struct call *call)
{
    struct entry *entry;

    if (look_up(call, VALUE_LIST, &entry))
        reply_number(call->client, entry ? (int64_t)((struct list *)entry->value)->length : 0);
}

static void do_lrange(const struct call *call)
{
    struct entry *entry;
    const struct node *node;
    int64_t first, last, length;

    if (!number_of(call->words[2], &first) || !number_of(call->words[3], &last)) {
        reply_error(call->client, "ERR value is not an integer or out of range");
        return;
    }
    if (!look_up(call, VALUE_LIST, &entry))
        return;
    length = entry ? (int64_t)((struct list *)entry->value)->length : 0;
    first = first < 0 ? (first + length < 0 ? 0 : first + length) : first;
    last = last < 0 ? last + length : last >= length ? length - 1 : last;
    reply_array(call->client, first <= last ? (size_t)(last - first + 1) : 0);
    node = entry ? ((struct list *)entry->value)->first : NULL;
    for (int64_t i = 0; node && i <= last; i++, node = node->next)
        if (i >= first)
            reply_text(call->client, string_text(node->text));
}

/* --- the server --- */

static void do_ping(const struct call *call)
{
    if (call->count > 1)
        reply_text(call->client, call->words[1]);
    else
        reply_simple(call->client, "+PONG");
}

static void do_echo(const struct call *call)
{
    reply_text(call->client, call->words[1]);
}

static void do_select(const struct call *call)
{
    if (is_word(call->words[1], "0"))
        reply_simple(call->client, "+OK");
    else
        reply_error(call->client, "ERR DB index is out of range");
}

/* Clients ask for settings and lists of commands that do not exist here. */
static void do_empty(const struct call *call)
{
    reply_array(call->client, 0);
}

static void do_info(const struct call *call)
{
    char text[128];

    snprintf(text, sizeof text, "# Keyspace\r\ndb0:keys=%llu,expires=0,avg_ttl=0\r\n",
             (unsigned long long)call->server->store->keys->count);
    reply_text(call->client, (struct text){text, strlen(text)});
}

static void do_dbsize(const struct call *call)
{
    reply_number(call->client, (int64_t)call->server->store->keys->count);
}

static void do_flushall(const struct call *call)
{
    const struct table *table = call->server->store->keys;
    uint64_t bucket = 0;
    struct entry *entry;

    while ((entry = table_next(table, &bucket, NULL)))
        remove_key(call, entry_key(entry));
    reply_simple(call->client, "+OK");
}

static void do_save(const struct call *call)
{
    int64_t number = pheap_heap_checkpoint(call->server->heap);

    if (number > 0)
        reply_simple(call->client, "+OK");
    else
        reply_error(call->client, pheap_error_text(number));
}

static void do_quit(const struct call *call)
{
    reply_simple(call->client, "+OK");
    call->client->ends = true;
}

static void do_shutdown(const struct call *call)
{
    call->server->ends = true;
}

static const struct command {
    const char *name;
    size_t least, most; /* words, its name among them; most 0: no limit */
    bool changes;
    void (*run)(const struct call *call);
} commands[] = {
    {"GET", 2, 2, false, do_get},
    {"SET", 3, 0, true, do_set},
    {"DEL", 2, 0, true, do_del},
    {"EXISTS", 2, 0, false, do_exists},
    {"TYPE", 2, 2, false, do_type},
    {"KEYS", 2, 2, false, do_keys},
    {"EXPIRE", 3, 3, true, do_expire},
    {"PEXPIRE", 3, 3, true, do_pexpire},
    {"TTL", 2, 2, false, do_ttl},
    {"PTTL", 2, 2, false, do_pttl},
    {"PERSIST", 2, 2, true, do_persist},
    {"STRLEN", 2, 2, false, do_strlen},
    {"MGET", 2, 0, false, do_mget},
    {"MSET", 3, 0, true, do_mset},
    {"INCR", 2, 2, true, do_incr},
    {"DECR", 2, 2, true, do_decr},
    {"INCRBY", 3, 3, true, do_incr},
    {"DECRBY", 3, 3, true, do_decr},
    {"HSET", 4, 0, true, do_hset},
    {"HGET", 3, 3, false, do_hget},
    {"HDEL", 3, 0, true, do_hdel},
    {"HEXISTS", 3, 3, false, do_hexists},
    {"HLEN", 2, 2, false, do_hlen},
    {"HGETALL", 2, 2, false, do_hgetall},
    {"HINCRBY", 4, 4, true, do_hincrby},
    {"LPUSH", 3, 0, true, do_lpush},
    {"RPUSH", 3, 0, true, do_rpush},
    {"LPOP", 2, 2, true, do_lpop},
    {"RPOP", 2, 2, true, do_rpop},
    {"LLEN", 2, 2, false, do_llen},
    {"LRANGE", 4, 4, false, do_lrange},
    {"PING", 1, 2, false, do_ping},
    {"ECHO", 2, 2, false, do_echo},
    {"SELECT", 2, 2, false, do_select},
    {"COMMAND", 1, 0, false, do_empty},
    {"CONFIG", 2, 0, false, do_empty},
    {"INFO", 1, 0, false, do_info},
    {"DBSIZE", 1, 1, false, do_dbsize},
    {"FLUSHALL", 1, 2, true, do_flushall},
    {"FLUSHDB", 1, 2, true, do_flushall},
    {"SAVE", 1, 1, false, do_save},
    {"QUIT", 1, 1, false, do_quit},
    {"SHUTDOWN", 1, 2, false, do_shutdown},
};

static const struct command *command_named(struct text name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (is_word(name, commands[i].name))
            return &commands[i];
    return NULL;
}

/* 0, or why nothing has changed. The reply of a command that fails is taken back. */
static int run_change(struct call *call, void (*run)(const struct call *call))
{
    struct change change = {0};
    size_t replied = call->client ? call->client->out.used : 0;
    int status = pheap_tx_begin(call->server->heap, &change.tx);

    if (status < 0)
        return status;
    call->change = &change;
    if (setjmp(change.failed) == 0) {
        run(call);
        return pheap_tx_commit_soon(change.tx, NULL);
    }
    pheap_tx_abort(change.tx);
    if (call->client)
        call->client->out.used = replied;
    return change.status;
}

void command_do(struct server *server, struct client *client)
{
    struct call call = {server, client, NULL, client->words, client->word_count};
    const struct command *command;
    char text[256];
    int status = 0;

    if (call.count == 0)
        return;
    command = command_named(call.words[0]);
    if (!command || call.count < command->least || (command->most && call.count > command->most)) {
        snprintf(text, sizeof text,
                 command ? "ERR wrong number of arguments for '%.*s' command"
                         : "ERR unknown command '%.*s'",
                 (int)(call.words[0].length < 100 ? call.words[0].length : 100),
                 call.words[0].bytes);
        reply_error(client, text);
        return;
    }
    if (command->changes)
        status = run_change(&call, command->run);
    else
        command->run(&call);
    if (status < 0) {
        snprintf(text, sizeof text, "ERR nothing has changed: %s", pheap_error_text(status));
        reply_error(client, text);
    }
}

static void remove_expired(const struct call *call)
{
    const struct table *table = call->server->store->keys;
    uint64_t *bucket = &call->server->expiring, end;
    struct entry *entry, *next;

    if (*bucket >= table->bucket_count)
        *bucket = 0;
    end = *bucket + EXPIRE_BUCKETS;
    for (entry = table_next(table, bucket, NULL); entry && *bucket < end; entry = next) {
        next = table_next(table, bucket, entry);
        if (is_over(entry))
            remove_key(call, entry_key(entry));
    }
}

void expire_some(struct server *server)
{
    struct call call = {.server = server};

    (void)run_change(&call, remove_expired); /* what cannot be done now is done later */
}
