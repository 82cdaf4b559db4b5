/*
 * recovery_crafted_log.c - logs that an enemy has made to take long: the library and the checker
 * read each in a time in proportion to its length, or refuse it.
 *
 * A log of 16 MiB has 262144 places where a record may begin. What looks at each pair of them, or
 * at all that follows for each, takes minutes to hours; what does not, less than a second.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "core/base/checksum.h"
#include "core/tx/log_format.h"
#include "core/tx/replay.h"
#include "recovery/check/check.h"
#include "t/lib/tx_fixture.h"

#define LOG_BYTES      (16u << 20)
#define LONG_LOG_BYTES (2 * LOG_BYTES)
#define SECONDS_MOST   8.0 /* of processor time */
#define LANE_BYTES     192u
#define GIVING_BYTES   128u
#define RECORD_BYTES   128u
#define PROMISE_BYTES  192u

/* Longer than what is read in one piece. */
#define LOOKALIKES_BYTES (1u << 20)

static uint8_t *file, *area; /* the pool; its log, all of one extent */
static uint64_t file_bytes;
static struct superblock *super;
static uint8_t other_uuid[16]; /* of the pool that decides */

/* --- a pool with a log of zeroes --- */

static void map_file(uint64_t log_bytes)
{
    int fd = open(fixture_path, O_RDWR);
    off_t end = lseek(fd, 0, SEEK_END);

    file_bytes = (uint64_t)end + log_bytes;
    CHECK_EQ(ftruncate(fd, (off_t)file_bytes), 0);
    file = mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        abort();
    area = file + end;
}

static void begin_craft(uint64_t log_bytes)
{
    struct superblock *pair;

    fixture_create();
    fixture_close();
    map_file(log_bytes);
    pair = (struct superblock *)file;
    super = &pair[pair[1].sequence > pair[0].sequence];
    super->format_version = POOL_FORMAT_LANES;
    super->log.extents[super->log.extent_count++] =
        (struct log_extent){super->frame_count, log_bytes >> FRAME_SHIFT};
    super->log.start_extent = super->log.extent_count - 1;
    super->log.start = 0;
    super->frame_count = file_bytes >> FRAME_SHIFT;
    super->checksum = checksum64(super, __builtin_offsetof(struct superblock, checksum));
}

static void seal(struct log_record *record)
{
    uint64_t uuid;

    memcpy(&uuid, super->uuid, sizeof uuid);
    record->checksum = uuid ^ checksum64(record + 1, record->bytes - sizeof *record);
    record->checksum = checksum64(record, sizeof *record);
}

/* --- how long it takes --- */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void ignore(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

static uint64_t checked_counts[FINDING_KINDS];

static enum severity check_now(uint64_t *records)
{
    const struct check_request request = {
        .path = fixture_path, .heaps = HEAPS_OF_ALL, .found = ignore};
    struct check_result result;

    CHECK_OK(check_pool(&request, &result, &why));
    *records = result.log_records;
    memcpy(checked_counts, result.counts, sizeof checked_counts);
    return result.worst;
}

static int open_now(bool read_only)
{
    int status = fixture_open_path(&heap, fixture_path, read_only);

    if (status == 0)
        CHECK_EQ(opened_close(heap), 0);
    return status;
}

/* Of all three. *records: that the checker says are whole. */
static void end_craft(int expected, enum severity severity, uint64_t *records)
{
    double start = seconds(), checked, read, written;

    CHECK_EQ(check_now(records), severity);
    checked = seconds();
    CHECK_EQ(open_now(true), expected);
    read = seconds();
    CHECK_EQ(open_now(false), expected);
    written = seconds();
    CHECK(written - start < SECONDS_MOST);
    tap_note("checked in %.3f s, opened for reading in %.3f s, for writing in %.3f s",
             checked - start, read - checked, written - read);
    munmap(file, file_bytes);
}

/* --- what looks like records, and lanes --- */

/* Each place holds what looks like a later record that is as long as the rest of the log. */
static void what_looks_like_records_everywhere(void)
{
    uint64_t records;

    begin_craft(LOG_BYTES);
    for (uint64_t at = 0; at < LOG_BYTES; at += LOG_ALIGN)
        *(struct log_record *)(area + at) = (struct log_record){.magic = LOG_MAGIC,
                                                                .sequence = UINT64_MAX,
                                                                .bytes = LOG_BYTES - at,
                                                                .session = 1,
                                                                .durable = UINT64_MAX - 1};
    end_craft(0, SEVERITY_HARMLESS, &records);
    CHECK_EQ(checked_counts[LG_LOOKALIKES], 1);
    CHECK_EQ(checked_counts[LG_TORN], 0);
    CHECK_EQ(records, 0);
}

static struct log_record *give(uint64_t at, uint64_t sequence, uint64_t bytes, uint64_t number,
                               uint64_t session)
{
    struct log_record *record = (struct log_record *)(area + at);
    struct log_lane_terms *terms = (struct log_lane_terms *)(record + 1);

    *record = (struct log_record){.magic = LOG_MAGIC,
                                  .sequence = sequence,
                                  .bytes = GIVING_BYTES,
                                  .previous = super->log.root,
                                  .session = 7};
    *terms = (struct log_lane_terms){.session = session, .bytes = bytes, .number = number};
    memcpy(terms->magic, LOG_LANE_TERMS_MAGIC, sizeof terms->magic);
    seal(record);
    return (struct log_record *)(area + at + GIVING_BYTES);
}

/* The same in a lane that is as long as the log. */
static void what_looks_like_records_of_a_lane(void)
{
    uint64_t records;

    begin_craft(LOG_BYTES);
    (void)give(0, super->log.sequence + 1, LOG_BYTES - GIVING_BYTES, 3, 99);
    for (uint64_t at = GIVING_BYTES; at < LOG_BYTES; at += LOG_ALIGN)
        *(struct log_record *)(area + at) = (struct log_record){
            .magic = LOG_LANE_MAGIC, .sequence = 2, .bytes = LOG_BYTES - at, .session = 99};
    end_craft(0, SEVERITY_HARMLESS, &records);
    CHECK_EQ(checked_counts[LG_LOOKALIKES], 1);
    CHECK_EQ(checked_counts[LG_TORN], 0);
    CHECK_EQ(records, 1);
}

/* Lane after lane, as short as can be, each of which lacks its first record and has its second. */
static void many_lanes_that_break_off(void)
{
    uint64_t sequence = 0, at, session = 1000, records;

    begin_craft(LONG_LOG_BYTES);
    for (at = 0; at + GIVING_BYTES + LANE_BYTES <= LONG_LOG_BYTES;
         at += GIVING_BYTES + LANE_BYTES) {
        struct log_record *lane =
            give(at, super->log.sequence + 1 + sequence, LANE_BYTES, session % LOG_LANES, session);
        struct log_record *second = lane + 1;

        *second = (struct log_record){
            .magic = LOG_LANE_MAGIC, .sequence = 2, .bytes = RECORD_BYTES, .session = session++};
        seal(second);
        sequence += 1 + LANE_BYTES / LOG_ALIGN;
    }
    end_craft(STATUS_DAMAGED, SEVERITY_DAMAGE, &records);
    CHECK_EQ(records, 1);
}

/* No record has room in such a lane: what gives it does not count. */
static void a_lane_is_no_shorter_than_a_record(void)
{
    uint64_t records;

    for (uint64_t bytes = 0; bytes <= RECORD_BYTES; bytes += LOG_ALIGN) {
        begin_craft(LOG_BYTES);
        (void)give(0, super->log.sequence + 1, bytes, 3, 99);
        CHECK_EQ(check_now(&records), bytes < RECORD_BYTES ? SEVERITY_HARMLESS : SEVERITY_NONE);
        CHECK_EQ(records, bytes == RECORD_BYTES);
        CHECK_OK(fixture_open_path(&heap, fixture_path, true));
        CHECK_EQ(heap->log.records, bytes == RECORD_BYTES);
        CHECK_EQ(opened_close(heap), 0);
        munmap(file, file_bytes);
    }
}

/* --- records --- */

static uint8_t *put(uint8_t *at, struct log_record *record, uint64_t sequence)
{
    record->magic = LOG_MAGIC;
    record->sequence = sequence;
    record->previous = super->log.root;
    record->session = 7;
    memmove(at, record, record->bytes);
    seal((struct log_record *)at);
    return at + record->bytes;
}

static uint8_t *put_promise(uint8_t *at, uint64_t sequence, uint64_t id, const char *path)
{
    _Alignas(LOG_ALIGN) uint8_t bytes[PROMISE_BYTES] = {0};
    struct log_record *record = (struct log_record *)bytes;
    struct log_entry *entry = (struct log_entry *)(record + 1);
    struct log_promise *terms = (struct log_promise *)(entry + 1);

    *record = (struct log_record){.bytes = PROMISE_BYTES, .entry_count = 1};
    *entry = (struct log_entry){.kind = LOG_PREPARE, .address = id};
    entry->bytes = sizeof *terms + strlen(path) + 1;
    memcpy(terms->pool, other_uuid, sizeof other_uuid);
    memcpy(terms->path, path, strlen(path) + 1);
    return put(at, record, sequence);
}

static uint8_t *put_outcome(uint8_t *at, uint64_t sequence, uint64_t id)
{
    struct outcome_record outcome = outcome_record_of(id, LOG_UNDONE);

    return put(at, &outcome.record, sequence);
}

/* It was written when all up to `durable` were so. */
static void put_one_that_knows(uint8_t *at, uint64_t sequence, uint64_t durable)
{
    struct log_record record = {.bytes = sizeof record, .durable = durable};

    (void)put(at, &record, sequence);
}

/* --- what lies in records --- */

/* A promise with so many bytes behind its path as a program may choose: what looks like later
 * records, whole ones or such as reach to the end of the log. Undone. */
static uint8_t *put_what_looks_like_records(uint8_t *at, uint64_t sequence, bool whole)
{
    struct log_record *record = (struct log_record *)at;
    struct log_entry *entry = (struct log_entry *)(record + 1);
    uint8_t *end = at + LOOKALIKES_BYTES;

    *record = (struct log_record){.bytes = LOOKALIKES_BYTES, .entry_count = 1};
    *entry = (struct log_entry){.kind = LOG_PREPARE, .address = sequence};
    entry->bytes = (uint64_t)(end - (uint8_t *)(entry + 1));
    for (at += PROMISE_BYTES; at < end; at += LOG_ALIGN) {
        struct log_record *inner = (struct log_record *)at;

        *inner = (struct log_record){.magic = LOG_MAGIC, .bytes = sizeof *inner};
        inner->durable = inner->sequence = sequence + 1000;
        if (whole)
            seal(inner);
        else
            inner->bytes = (uint64_t)(area + LOG_BYTES - at);
    }
    (void)put((uint8_t *)record, record, sequence);
    return put_outcome(end, sequence + 1, sequence);
}

static void begin_log_at(const uint8_t *at)
{
    super->log.start = (uint64_t)(at - area);
    super->checksum = checksum64(super, __builtin_offsetof(struct superblock, checksum));
}

/* They count, or are of a log before. */
static void what_records_hold_hides_no_break(void)
{
    for (unsigned is_old = 0; is_old < 2; is_old++) {
        uint64_t sequence, records;
        uint8_t *at;

        begin_craft(LOG_BYTES);
        sequence = super->log.sequence;
        at = put_what_looks_like_records(area, is_old ? 1 : sequence + 1, false);
        if (is_old)
            begin_log_at(at);
        else
            sequence += 2;
        put_one_that_knows(at + RECORD_BYTES, sequence + 2, sequence + 1);
        end_craft(STATUS_DAMAGED, SEVERITY_DAMAGE, &records);
        CHECK_EQ(records, is_old ? 0 : 2);
    }
}

static void what_records_hold_is_no_record(void)
{
    uint64_t records;

    begin_craft(LOG_BYTES);
    (void)put_what_looks_like_records(area, super->log.sequence + 1, true);
    end_craft(0, SEVERITY_NONE, &records);
    CHECK_EQ(records, 2);
}

/* --- many promises --- */

/* Each is kept, the last one first. */
static void many_promises(void)
{
    const uint64_t count = LOG_BYTES / (PROMISE_BYTES + RECORD_BYTES);
    uint64_t records, sequence;
    uint8_t *at;

    begin_craft(LOG_BYTES);
    sequence = super->log.sequence;
    at = area;
    for (uint64_t id = 1; id <= count; id++)
        at = put_promise(at, ++sequence, id, "nowhere");
    for (uint64_t id = count; id > 0; id--)
        at = put_outcome(at, ++sequence, id);
    end_craft(0, SEVERITY_NONE, &records);
    CHECK_EQ(records, 2 * count);
}

/* A heap that has decided nothing. */
static void make_other(const char *path)
{
    struct pheap *other;

    unlink(path);
    CHECK_OK(pool_create(path, FIXTURE_SLOT + 1, 3, &why));
    CHECK_OK(fixture_open_path(&other, path, false));
    memcpy(other_uuid, other->pool.super.uuid, sizeof other_uuid);
    CHECK_EQ(opened_close(other), 0);
}

/* None is kept: another pool is asked about each. It is found beside this one, as each says that it
 * lies somewhere else. */
static void many_promises_that_another_pool_decides(void)
{
    const uint64_t count = LOG_BYTES / PROMISE_BYTES;
    char other[sizeof fixture_path + 8], name[32];
    uint64_t records, sequence;
    uint8_t *at;

    snprintf(other, sizeof other, "%s.other", fixture_path);
    make_other(other);
    begin_craft(LOG_BYTES);
    sequence = super->log.sequence;
    at = area;
    for (uint64_t id = 1; id <= count; id++) {
        snprintf(name, sizeof name, "/away-%u/pool.other", (unsigned)id);
        at = put_promise(at, ++sequence, id, name);
    }
    end_craft(0, SEVERITY_NONE, &records);
    CHECK_EQ(records, count);
    unlink(other);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(what_looks_like_records_everywhere);
    RUN(what_looks_like_records_of_a_lane);
    RUN(many_lanes_that_break_off);
    RUN(what_records_hold_hides_no_break);
    RUN(what_records_hold_is_no_record);
    RUN(many_promises);
    RUN(many_promises_that_another_pool_decides);
    RUN(a_lane_is_no_shorter_than_a_record);
    fixture_end();
    return tap_done();
}
