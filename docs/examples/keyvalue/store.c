/*
 * store.c - see store.h. Every store to the heap is announced to the transaction first; ASSIGN does
 * both.
 */
#include "store.h"

#include <string.h>

#define FIRST_DIRECTORY 4u
#define ASSIGN(change, place, value)                                                               \
    (announce((change), &(place), sizeof(place)), (place) = (value))

static void must(struct change *change, int status)
{
    if (status == 0)
        return;
    change->status = status;
    longjmp(change->failed, 1);
}

static void announce(struct change *change, void *place, size_t bytes)
{
    must(change, pheap_tx_add(change->tx, place, bytes));
}

static void *make(struct change *change, size_t bytes, uint32_t type)
{
    void *made;

    must(change, pheap_tx_alloc(change->tx, bytes, type, &made));
    return made;
}

static void drop(struct change *change, void *object)
{
    must(change, pheap_tx_free(change->tx, object));
}

/* --- strings --- */

struct string *string_make(struct change *change, struct text text)
{
    struct string *made = make(change, sizeof *made + text.length, TYPE_STRING);

    made->length = text.length; /* a new object needs no announcement */
    memcpy(made->bytes, text.bytes, text.length);
    return made;
}

struct text string_text(const struct string *string)
{
    return (struct text){string->bytes, string->length};
}

/* --- tables --- */

/* FNV-1a. A server that strangers can reach takes a keyed hash. */
static uint64_t hash_of(struct text key)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < key.length; i++)
        hash = (hash ^ (unsigned char)key.bytes[i]) * 0x100000001b3;
    return hash ^ hash >> 32;
}

static uint64_t table_bucket(const struct table *table, uint64_t hash)
{
    uint64_t mask = 1;

    while (mask < table->bucket_count)
        mask <<= 1;
    return (hash & (mask - 1)) < table->bucket_count ? hash & (mask - 1) : hash & (mask / 2 - 1);
}

static struct entry **bucket_at(const struct table *table, uint64_t bucket)
{
    return &table->directory[bucket / SEGMENT_BUCKETS]->buckets[bucket % SEGMENT_BUCKETS];
}

struct table *table_make(struct change *change)
{
    struct table *table = make(change, sizeof *table, TYPE_TABLE);

    table->directory = make(change, FIRST_DIRECTORY * sizeof *table->directory, TYPE_DIRECTORY);
    table->directory_room = FIRST_DIRECTORY;
    table->directory[0] = make(change, sizeof(struct segment), TYPE_SEGMENT);
    table->bucket_count = SEGMENT_BUCKETS;
    return table;
}

static bool is_key(const struct entry *entry, uint64_t hash, struct text key)
{
    return entry->hash == hash && entry->key_length == key.length &&
           memcmp(entry->key, key.bytes, key.length) == 0;
}

struct entry *table_find(const struct table *table, struct text key)
{
    uint64_t hash = hash_of(key);
    struct entry *entry = *bucket_at(table, table_bucket(table, hash));

    while (entry && !is_key(entry, hash, key))
        entry = entry->next;
    return entry;
}

static void grow_directory(struct change *change, struct table *table)
{
    uint64_t room = table->directory_room;
    struct segment **larger = make(change, 2 * room * sizeof *larger, TYPE_DIRECTORY);

    memcpy(larger, table->directory, room * sizeof *larger);
    drop(change, table->directory);
    ASSIGN(change, table->directory, larger);
    ASSIGN(change, table->directory_room, 2 * room);
}

/* One more bucket: the entries of one that belong there now are moved. */
static void grow(struct change *change, struct table *table)
{
    uint64_t fresh = table->bucket_count, half = 1;
    struct entry **from, **to;

    while (half * 2 <= fresh)
        half *= 2;
    if (fresh % SEGMENT_BUCKETS == 0) {
        if (fresh / SEGMENT_BUCKETS == table->directory_room)
            grow_directory(change, table);
        ASSIGN(change, table->directory[fresh / SEGMENT_BUCKETS],
               make(change, sizeof(struct segment), TYPE_SEGMENT));
    }
    ASSIGN(change, table->bucket_count, fresh + 1);
    from = bucket_at(table, fresh & (half - 1));
    to = bucket_at(table, fresh);
    announce(change, to, sizeof *to);
    while (*from) {
        struct entry *entry = *from;

        if (table_bucket(table, entry->hash) != fresh) {
            from = &entry->next;
            continue;
        }
        ASSIGN(change, *from, entry->next);
        ASSIGN(change, entry->next, *to);
        *to = entry;
    }
}

struct entry *table_put(struct change *change, struct table *table, struct text key)
{
    struct entry *entry = table_find(table, key), **bucket;

    if (entry)
        return entry;
    entry = make(change, sizeof *entry + key.length, TYPE_ENTRY);
    entry->hash = hash_of(key);
    entry->key_length = (uint32_t)key.length;
    memcpy(entry->key, key.bytes, key.length);
    bucket = bucket_at(table, table_bucket(table, entry->hash));
    entry->next = *bucket;
    ASSIGN(change, *bucket, entry);
    ASSIGN(change, table->count, table->count + 1);
    if (table->count > table->bucket_count)
        grow(change, table);
    return entry;
}

bool table_remove(struct change *change, struct table *table, struct text key)
{
    uint64_t hash = hash_of(key);
    struct entry **place = bucket_at(table, table_bucket(table, hash)), *entry;

    while (*place && !is_key(*place, hash, key))
        place = &(*place)->next;
    entry = *place;
    if (!entry)
        return false;
    entry_set(change, entry, VALUE_NONE, NULL);
    ASSIGN(change, *place, entry->next);
    ASSIGN(change, table->count, table->count - 1);
    drop(change, entry);
    return true;
}

/* Begins with *bucket 0 and after NULL; NULL at the end. */
struct entry *table_next(const struct table *table, uint64_t *bucket, const struct entry *after)
{
    struct entry *entry = after ? after->next : NULL;

    if (after && !entry)
        ++*bucket;
    while (!entry && *bucket < table->bucket_count) {
        entry = *bucket_at(table, *bucket);
        if (!entry)
            ++*bucket;
    }
    return entry;
}

static void table_drop(struct change *change, struct table *table)
{
    for (uint64_t bucket = 0; bucket < table->bucket_count; bucket++)
        for (struct entry *entry = *bucket_at(table, bucket), *next; entry; entry = next) {
            next = entry->next;
            entry_set(change, entry, VALUE_NONE, NULL);
            drop(change, entry);
        }
    for (uint64_t i = 0; i * SEGMENT_BUCKETS < table->bucket_count; i++)
        drop(change, table->directory[i]);
    drop(change, table->directory);
    drop(change, table);
}

/* --- lists --- */

struct list *list_make(struct change *change)
{
    return make(change, sizeof(struct list), TYPE_LIST);
}

void list_push(struct change *change, struct list *list, struct text text, bool at_front)
{
    struct node *node = make(change, sizeof *node, TYPE_NODE);

    node->text = string_make(change, text);
    node->next = at_front ? list->first : NULL;
    node->previous = at_front ? NULL : list->last;
    announce(change, list, sizeof *list);
    if (at_front && list->first)
        ASSIGN(change, list->first->previous, node);
    else if (!at_front && list->last)
        ASSIGN(change, list->last->next, node);
    if (at_front || !list->first)
        list->first = node;
    if (!at_front || !list->last)
        list->last = node;
    list->length++;
}

void list_drop(struct change *change, struct list *list, bool at_front)
{
    struct node *node = at_front ? list->first : list->last;

    announce(change, list, sizeof *list);
    if (node->previous)
        ASSIGN(change, node->previous->next, node->next);
    else
        list->first = node->next;
    if (node->next)
        ASSIGN(change, node->next->previous, node->previous);
    else
        list->last = node->previous;
    list->length--;
    drop(change, node->text);
    drop(change, node);
}

static void list_free(struct change *change, struct list *list)
{
    for (struct node *node = list->first, *next; node; node = next) {
        next = node->next;
        drop(change, node->text);
        drop(change, node);
    }
    drop(change, list);
}

/* --- entries --- */

struct text entry_key(const struct entry *entry)
{
    return (struct text){entry->key, entry->key_length};
}

void entry_set(struct change *change, struct entry *entry, uint32_t kind, void *value)
{
    switch (entry->kind) {
    case VALUE_STRING:
        drop(change, entry->value);
        break;
    case VALUE_HASH:
        table_drop(change, entry->value);
        break;
    case VALUE_LIST:
        list_free(change, entry->value);
        break;
    }
    announce(change, entry, sizeof *entry);
    entry->kind = kind;
    entry->value = value;
    entry->expires_ms = 0;
}

void entry_expire(struct change *change, struct entry *entry, int64_t expires_ms)
{
    ASSIGN(change, entry->expires_ms, expires_ms);
}

/* --- the store --- */

static int make_store(struct pheap *heap, struct store **out)
{
    struct change change = {0};
    int status = pheap_tx_begin(heap, &change.tx);

    if (status < 0)
        return status;
    if (setjmp(change.failed)) {
        pheap_tx_abort(change.tx);
        return change.status;
    }
    *out = make(&change, sizeof **out, TYPE_STORE);
    (*out)->keys = table_make(&change);
    must(&change, pheap_root_set(change.tx, "store", *out, TYPE_STORE));
    return pheap_tx_commit(change.tx);
}

int store_open(struct pheap *heap, struct store **out)
{
    *out = pheap_root(heap, "store", NULL);
    return *out ? 0 : make_store(heap, out);
}
