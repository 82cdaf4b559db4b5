/*
 * store.h - keys and their values, in a pheap heap: what the server keeps.
 *
 * Everything here lies in the heap and is linked by plain pointers, which stay valid because the
 * heap always lies at the same address. It is changed within a transaction (struct change) and
 * looked at at any time; one thread does both.
 *
 * A call that cannot be done (a full disk, say) does not return: it goes to change->failed by
 * longjmp, and who began the change aborts it. So no caller has to look at each step.
 */
#ifndef KEYVALUE_STORE_H
#define KEYVALUE_STORE_H

#include <pheap.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

enum { /* types of objects */
       TYPE_STORE = 1,
       TYPE_TABLE,
       TYPE_DIRECTORY,
       TYPE_SEGMENT,
       TYPE_ENTRY,
       TYPE_STRING,
       TYPE_LIST,
       TYPE_NODE,
};

struct text { /* bytes of somebody else; not NUL-terminated */
    const char *bytes;
    size_t length;
};

struct string {
    uint64_t length;
    char bytes[];
};

enum value_kind { VALUE_NONE, VALUE_STRING, VALUE_HASH, VALUE_LIST };

struct entry {
    struct entry *next; /* in its bucket */
    uint64_t hash;
    int64_t expires_ms; /* since 1970; 0: never */
    void *value;        /* struct string, table or list */
    uint32_t kind;
    uint32_t key_length;
    char key[];
};

/*
 * A hash table that grows by one bucket at a time (linear hashing, Litwin 1980): no insertion has
 * to move the whole table, so no transaction is large.
 *
 * Invariant: bucket_count buckets are in use, in segments of SEGMENT_BUCKETS; an entry is in bucket
 * table_bucket(hash); count entries in all.
 */
#define SEGMENT_BUCKETS 64u

struct segment {
    struct entry *buckets[SEGMENT_BUCKETS];
};

struct table {
    uint64_t count, bucket_count;
    uint64_t directory_room;
    struct segment **directory;
};

struct node {
    struct node *previous, *next;
    struct string *text;
};

struct list {
    uint64_t length;
    struct node *first, *last;
};

struct store { /* the heap's root "store" */
    struct table *keys;
};

struct change {
    struct pheap_tx *tx;
    jmp_buf failed;
    int status; /* why */
};

/* The store in the heap; made if there is none yet. 0 or a negative error of pheap.h. */
int store_open(struct pheap *heap, struct store **out);

/* Text and numbers */
struct string *string_make(struct change *change, struct text text);
struct text string_text(const struct string *string);

/* Tables */
struct table *table_make(struct change *change);
struct entry *table_find(const struct table *table, struct text key);
struct entry *table_put(struct change *change, struct table *table, struct text key); /* new ones
                                                                     have VALUE_NONE */
bool table_remove(struct change *change, struct table *table, struct text key);
struct entry *table_next(const struct table *table, uint64_t *bucket, const struct entry *after);

/* The value of an entry; what was there is freed. value NULL with VALUE_NONE: nothing. */
void entry_set(struct change *change, struct entry *entry, uint32_t kind, void *value);
void entry_expire(struct change *change, struct entry *entry, int64_t expires_ms);
struct text entry_key(const struct entry *entry);

/* Lists */
struct list *list_make(struct change *change);
void list_push(struct change *change, struct list *list, struct text text, bool at_front);
void list_drop(struct change *change, struct list *list, bool at_front); /* it is not empty */

#endif
