/*
 * process_record.c - a record written and read back, and records that lie.
 */
#include <sys/stat.h>
#include "core/image/file_area.h"
#include "core/process/crash_record.h"
#include "core/process/processor.h"
#include "core/process/tracee.h"
#include "t/lib/record_fixture.h"

static void what_was_written_is_read(void)
{
    struct process_image image;

    put_basic(3);
    put_mapping(0x10000, 0x12000, RECORD_ID_NONE, 0);
    put_mapping(0x12000, 0x13000, 0, 0);
    CHECK_EQ(read_back(&image), 0);
    CHECK_EQ(image.thread_count, 3);
    CHECK_EQ(image.threads[2].record->tid, 102);
    CHECK_STR(image.directory, "/tmp");
    CHECK_EQ(image.auxv_bytes, 16);
    CHECK(process_image_mapping(&image, 0xffff) == NULL);
    CHECK(process_image_mapping(&image, 0x11fff) == &image.mappings[0]);
    CHECK(process_image_mapping(&image, 0x12000) == &image.mappings[1]);
    CHECK(process_image_mapping(&image, 0x13000) == NULL);
}

static void every_truncation_is_recognised(void)
{
    size_t whole;

    put_basic(2);
    whole = writer.used;
    for (size_t size = 0; size < whole; size += 4) {
        writer.used = size;
        CHECK(read_status() != 0);
    }
}

static void impossible_mappings_are_refused(void)
{
    const struct {
        uint64_t start, end;
        uint32_t file, flags;
    } bad[] = {
        {0x10000, 0x10000, RECORD_ID_NONE, 0},
        {0x10001, 0x12000, RECORD_ID_NONE, 0},
        {0, 0x1000, RECORD_ID_NONE, 0},
        {0x10000, 0x8000000000000000, RECORD_ID_NONE, 0},
        {0x10000, 0x12000, 1, 0},                                  /* no such file */
        {0x10000, 0x12000, RECORD_ID_NONE, RECORD_MAPPING_SHARED}, /* of nothing */
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_basic(1);
        put_mapping(bad[i].start, bad[i].end, bad[i].file, bad[i].flags);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
    }
    put_basic(1);
    put_mapping(0x10000, 0x12000, RECORD_ID_NONE, 0);
    put_mapping(0x11000, 0x13000, RECORD_ID_NONE, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
}

static void impossible_threads_are_refused(void)
{
    struct record_thread thread = {.tid = 100, .xstate_bytes = 0};

    put_basic(1);
    record_put(&writer, RECORD_THREAD, &thread, sizeof thread, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* the leader's id again */
    put_basic(1);
    thread.tid = 101;
    record_put(&writer, RECORD_THREAD, &thread, sizeof thread, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* one more than the process says */
    put_basic(1);
    thread.tid = 1 << 30;
    record_put(&writer, RECORD_THREAD, &thread, sizeof thread, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
}

static void impossible_descriptors_are_refused(void)
{
    struct record_description description = {.kind = DESCRIPTION_REGULAR};
    struct record_descriptor descriptor = {.number = 3};

    put_basic(1);
    record_put(&writer, RECORD_DESCRIPTOR, &descriptor, sizeof descriptor, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* of no description */
    put_basic(1);
    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "name", 5);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* no path */
    put_basic(1);
    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "/name", 5);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* no NUL */
    put_basic(1);
    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "/name", 6);
    record_put(&writer, RECORD_DESCRIPTOR, &descriptor, sizeof descriptor, NULL, 0);
    CHECK_EQ(read_status(), 0);
    record_put(&writer, RECORD_DESCRIPTOR, &descriptor, sizeof descriptor, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* twice */
    put_basic(1);
    description.kind = DESCRIPTION_PIPE;
    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "/name", 6);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* of no pipe */
    for (uint32_t named = 0; named < 2; named++) {
        struct record_pipe pipe = {.capacity = 4096, .named = named};

        put_basic(1);
        record_put(&writer, RECORD_PIPE, &pipe, sizeof pipe, NULL, 0);
        description.kind = DESCRIPTION_PIPE;
        record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "/name", 6);
        CHECK_EQ(read_status(), named ? STATUS_DAMAGED : 0);
        description.kind = DESCRIPTION_FIFO;
        description.id = 1;
        record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "/name", 6);
        CHECK_EQ(read_status(), STATUS_DAMAGED); /* one of the two does not fit */
        description.id = 0;
    }
}

static void impossible_attributes_are_refused(void)
{
    const struct record_thread_attributes bad[] = {
        {.tid = 101}, /* not behind its thread */
        {.tid = 100, .death_signal = 65},
    };
    const struct record_process_attributes process[] = {{.oom_score_adj = 1001}, {.dumpable = 3}};
    struct record_thread_attributes good = {.tid = 100};
    static const uint8_t cpus[1032];

    put_basic(1);
    record_put(&writer, RECORD_THREAD_ATTRIBUTES, &good, sizeof good, cpus, 8);
    CHECK_EQ(read_status(), 0);
    record_put(&writer, RECORD_THREAD_ATTRIBUTES, &good, sizeof good, cpus, 8);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* twice */
    put_basic(1);
    record_put(&writer, RECORD_THREAD_ATTRIBUTES, &good, sizeof good, cpus, sizeof cpus);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    for (int i = 0; i < 2; i++) {
        put_basic(1);
        record_put(&writer, RECORD_THREAD_ATTRIBUTES, &bad[i], sizeof bad[i], cpus, 8);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
        put_basic(1);
        record_put(&writer, RECORD_PROCESS_ATTRIBUTES, &process[i], sizeof process[i], NULL, 0);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
    }
}

static void impossible_inotify_watches_are_refused(void)
{
    const struct {
        uint32_t kind, inotify, wd;
        const char *path;
        int status;
    } cases[] = {
        {DESCRIPTION_INOTIFY, 0, 7, "/tmp", 0},
        {DESCRIPTION_INOTIFY, 0, 0, "/tmp", STATUS_DAMAGED},
        {DESCRIPTION_INOTIFY, 0, 1u << 20, "/tmp", STATUS_DAMAGED},
        {DESCRIPTION_INOTIFY, 0, 7, "tmp", STATUS_DAMAGED},
        {DESCRIPTION_INOTIFY, 1, 7, "/tmp", STATUS_DAMAGED},
        {DESCRIPTION_EPOLL, 0, 7, "/tmp", STATUS_DAMAGED},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct record_description description = {.kind = cases[i].kind};
        struct record_inotify_watch watch = {.inotify = cases[i].inotify, .wd = cases[i].wd};

        put_basic(1);
        record_put(&writer, RECORD_INOTIFY_WATCH, &watch, sizeof watch, cases[i].path,
                   strlen(cases[i].path) + 1);
        record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "x", 2);
        CHECK_EQ(read_status(), cases[i].status);
    }
}

static void an_object_is_read_with_its_content(void)
{
    struct process_image image;

    put_object(OBJECT_MEMFD, 4096, "name");
    put_content(0, 4090, 6);
    put_mapping(0x10000, 0x12000, 0, RECORD_MAPPING_OBJECT | RECORD_MAPPING_SHARED);
    CHECK_EQ(read_back(&image), 0);
    CHECK_EQ(image.object_count, 1);
    CHECK_EQ(image.objects[0].part_count, 1);
    CHECK_EQ(image.objects[0].parts[0].offset, 4090);
    CHECK(memcmp(image.objects[0].parts[0].content, "123456", 6) == 0);
}

static void impossible_objects_are_refused(void)
{
    const struct {
        uint32_t kind;
        uint64_t size;
        const char *name;
    } bad[] = {
        {0, 0, "/name"},
        {OBJECT_SYSV + 1, 0, "/name"},
        {OBJECT_SYSV, 4096, "SYSV "},
        {OBJECT_SYSV, 4096, "SYSV 7 8"},
        {OBJECT_SYSV, 4096, "SYSV 4294967296"},
        {OBJECT_SYSV, 0, "SYSV 7"},
        {OBJECT_FILE, 0, "name"},
        {OBJECT_TEMPORARY, 0, ""},
        {OBJECT_SHM, 0, "/etc/passwd"},
        {OBJECT_SHM, 0, "/dev/shm/../../etc/passwd"},
        {OBJECT_MEMFD, 1ull << 63, "name"},
    };
    const struct {
        uint32_t object;
        uint64_t offset;
    } stray[] = {{1, 0}, {0, 4089}, {0, 4097}, {0, ~0ull}};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_object(bad[i].kind, bad[i].size, bad[i].name);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
    }
    for (size_t i = 0; i < sizeof stray / sizeof *stray; i++) {
        put_object(OBJECT_MEMFD, 4096, "name");
        put_content(stray[i].object, stray[i].offset, 8);
        CHECK_EQ(read_status(), STATUS_DAMAGED);
    }
    put_basic(1);
    put_content(0, 0, 8);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_object(OBJECT_MEMFD, 4096, "name");
    put_mapping(0x10000, 0x12000, 1, RECORD_MAPPING_OBJECT);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* of an unknown object */
}

static void put_version(uint32_t version)
{
    put_basic(1);
    memcpy(buffer + 8, &version, sizeof version); /* the first item's first field */
}

static void older_versions_are_read_and_newer_ones_are_not(void)
{
    put_version(RECORD_FORMAT_OLDEST);
    CHECK_EQ(read_status(), 0);
    put_version(RECORD_FORMAT_VERSION + 1);
    CHECK_EQ(read_status(), STATUS_NEWER_FORMAT);
    put_version(RECORD_FORMAT_OLDEST - 1);
    CHECK_EQ(read_status(), STATUS_NEWER_FORMAT);
}

static void impossible_children_are_refused(void)
{
    const struct {
        struct record_child child;
        int status;
    } cases[] = {
        {{.pid = 7, .state = CHILD_ENDED, .status = 9}, 0},
        {{.pid = 1, .state = CHILD_ENDED}, STATUS_DAMAGED},
        {{.pid = 1 << 22, .state = CHILD_ENDED}, STATUS_DAMAGED},
        {{.pid = 7, .state = CHILD_ENDED + 1}, STATUS_DAMAGED},
        {{.pid = 7, .state = CHILD_ENDED, .status = 0x10000}, STATUS_DAMAGED},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_basic(1);
        record_put(&writer, RECORD_CHILD, &cases[i].child, sizeof cases[i].child, NULL, 0);
        CHECK_EQ(read_status(), cases[i].status);
    }
    for (uint64_t pid = 100; pid < 102; pid++) { /* 100 is the process itself */
        struct record_description description = {.kind = DESCRIPTION_PIDFD, .value = pid};

        put_basic(1);
        record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "x", 2);
        CHECK_EQ(read_status(), pid == 100 ? 0 : STATUS_DAMAGED);
    }
}

static void impossible_shared_memory_is_refused(void)
{
    struct record_mapping mapping = {.start = 0x10000,
                                     .end = 0x12000,
                                     .file_offset = 0x20000,
                                     .flags = RECORD_MAPPING_OBJECT | RECORD_MAPPING_SHARED};
    struct record_description description = {.kind = DESCRIPTION_OBJECT};

    put_object(OBJECT_SYSV, 4096, "SYSV 7");
    put_mapping(0x10000, 0x12000, 0, RECORD_MAPPING_OBJECT | RECORD_MAPPING_SHARED);
    CHECK_EQ(read_status(), 0);
    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "x", 2);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* no descriptor refers to a segment */
    put_object(OBJECT_SYSV, 4096, "SYSV 7");
    record_put(&writer, RECORD_MAPPING, &mapping, sizeof mapping, "", 1);
    CHECK_EQ(read_status(), STATUS_DAMAGED); /* it would begin below zero */
}

static void a_terminal_and_clocks_are_there_once_at_most(void)
{
    const struct record_terminal terminal = {.size = {24, 80}};
    const struct record_clocks clocks = {.boottime_ns = 5};

    put_basic(1);
    record_put(&writer, RECORD_TERMINAL, &terminal, sizeof terminal, NULL, 0);
    record_put(&writer, RECORD_CLOCKS, &clocks, sizeof clocks, NULL, 0);
    CHECK_EQ(read_status(), 0);
    record_put(&writer, RECORD_CLOCKS, &clocks, sizeof clocks, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_basic(1);
    record_put(&writer, RECORD_TERMINAL, &terminal, sizeof terminal, NULL, 0);
    record_put(&writer, RECORD_TERMINAL, &terminal, sizeof terminal, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
}

static void a_processor_that_lacks_something_is_told_by_name(void)
{
    struct record_processor then, now;

    processor_read(&then);
    now = then;
    CHECK(then.words[1] & 1u << 26); /* sse2: every processor of 64 bits has it */
    CHECK(processor_lacks(&then, &now) == NULL);
    now.words[1] &= ~(1u << 26);
    CHECK_STR(processor_lacks(&then, &now), "sse2");
    CHECK(processor_lacks(&now, &then) == NULL); /* more than before is fine */
    now = then;
    now.words[2] ^= 1u << 1;   /* no feature that code is chosen by */
    then.words[0] |= 1u << 31; /* a hypervisor */
    CHECK(processor_lacks(&then, &now) == NULL);
    put_basic(1);
    record_put(&writer, RECORD_PROCESSOR, &then, sizeof then, NULL, 0);
    CHECK_EQ(read_status(), 0);
    record_put(&writer, RECORD_PROCESSOR, &then, sizeof then, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
}

/* No flip may crash the reader or make it look outside (run under ASan too). */
static void put_saved_file(uint32_t mode, uint32_t file, uint64_t first_page)
{
    struct record_file record = {.id = 1, .size = 7, .mode = mode};
    struct record_saved_file saved = {.file = file, .first_page = first_page};

    put_basic(1);
    record_put(&writer, RECORD_FILE, &record, sizeof record, "/lib/x.so", 10);
    record_put(&writer, RECORD_SAVED_FILE, &saved, sizeof saved, NULL, 0);
}

static void a_saved_file_lies_at_a_place_of_the_file_area_once(void)
{
    const uint64_t place = file_place_page(5);
    struct record_saved_file again = {.file = 1, .first_page = place};
    struct process_image image;

    put_saved_file(S_IFREG | 0644, 1, place);
    CHECK_EQ(read_back(&image), 0);
    CHECK(image.files[0].saved == NULL);
    CHECK_EQ(image.files[1].saved->first_page, place);
    put_saved_file(S_IFREG | 0644, 1, file_place_page(FILE_PLACES - 1));
    CHECK_EQ(read_status(), 0);
    record_put(&writer, RECORD_SAVED_FILE, &again, sizeof again, NULL, 0);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_saved_file(S_IFREG | 0644, 2, place);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_saved_file(S_IFCHR | 0644, 1, place);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_saved_file(S_IFREG | 0644, 1, place + 1);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_saved_file(S_IFREG | 0644, 1, FILE_AREA_FIRST - FILE_PLACE_PAGES);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    put_saved_file(S_IFREG | 0644, 1, file_place_page(FILE_PLACES));
    CHECK_EQ(read_status(), STATUS_DAMAGED);
}

static void put_saved_content(uint32_t kind, struct record_saved_content content)
{
    struct record_description description = {.kind = kind, .inode = 77};

    put_saved_file(S_IFREG | 0644, 1, file_place_page(1));
    record_put(&writer, RECORD_DESCRIPTION, &description, sizeof description, "/tmp/data", 10);
    record_put(&writer, RECORD_SAVED_CONTENT, &content, sizeof content, NULL, 0);
}

static void saved_content_is_of_a_file_that_is_open_or_mapped(void)
{
    const struct record_saved_content good = {.first_page = file_place_page(5), .bytes = 5000};
    struct record_saved_content bad = good, mapped = good;
    struct process_image image;

    put_saved_content(DESCRIPTION_REGULAR, good);
    CHECK_EQ(read_back(&image), 0);
    CHECK_EQ(image.content_count, 1);
    CHECK_STR(process_image_content_path(&image, image.contents[0]), "/tmp/data");
    CHECK(process_image_content(&image, 0, 77) == image.contents[0]);
    CHECK(process_image_content(&image, 0, 78) == NULL);
    CHECK(process_image_content(&image, 1, 77) == NULL);
    mapped.id = 1;
    mapped.flags = CONTENT_OF_FILE;
    put_saved_content(DESCRIPTION_REGULAR, mapped);
    CHECK_EQ(read_back(&image), 0);
    CHECK_STR(process_image_content_path(&image, image.contents[0]), "/lib/x.so");
    put_saved_content(DESCRIPTION_DIRECTORY, good);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    mapped.id = 0; /* no regular file */
    put_saved_content(DESCRIPTION_REGULAR, mapped);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    bad.id = 1;
    put_saved_content(DESCRIPTION_REGULAR, bad);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    bad = good;
    bad.first_page++;
    put_saved_content(DESCRIPTION_REGULAR, bad);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    bad = good;
    bad.bytes = FILE_PLACE_PAGES * FRAME_BYTES + 1;
    put_saved_content(DESCRIPTION_REGULAR, bad);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
    bad = good;
    bad.flags = 4;
    put_saved_content(DESCRIPTION_REGULAR, bad);
    CHECK_EQ(read_status(), STATUS_DAMAGED);
}

static void flipped_bits_never_crash_the_reader(void)
{
    struct process_image image;
    struct problem why;
    uint32_t refused = 0;

    struct record_socket socket = tcp_socket();

    put_object(OBJECT_MEMFD, 4096, "name");
    put_content(0, 8, 8);
    put_mapping(0x10000, 0x12000, 0, RECORD_MAPPING_OBJECT);
    put_socket(&socket, AF_INET);
    put_option(0, SOL_SOCKET, 4);
    put_socket_description(0, 0);
    for (size_t bit = 0; bit < writer.used * 8; bit += 3) {
        uintptr_t mark = arena_mark(&arena);

        buffer[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused += process_image_read(&image, buffer, writer.used, &arena, &why) != 0;
        buffer[bit / 8] ^= (uint8_t)(1u << bit % 8);
        arena_rewind(&arena, mark);
    }
    CHECK(refused > 100);
    CHECK_EQ(read_status(), 0);
}

static void an_unknown_item_is_from_a_newer_pheap(void)
{
    put_basic(1);
    record_put(&writer, 77, "x", 1, NULL, 0);
    CHECK_EQ(read_status(), STATUS_NEWER_FORMAT);
}

static void a_record_that_does_not_fit_is_failed_for_good(void)
{
    uint8_t small[64];
    struct record_writer tight = {.buffer = small, .size = sizeof small};

    record_put(&tight, 1, "12345678", 8, NULL, 0);
    CHECK_EQ(tight.used, 16);
    record_put(&tight, 1, buffer, 60, NULL, 0);
    CHECK_EQ(tight.failed, STATUS_LIMIT);
    record_put(&tight, 1, "1", 1, NULL, 0);
    CHECK_EQ(tight.used, 16);
}

static void the_record_of_a_crash_says_what_is_known_and_is_no_process(void)
{
    struct mapping mappings[2] = {
        {.start = 0x10000, .end = 0x20000, .kind = MAPPING_ANON, .name = "[heap]"},
        {.start = 0x30000, .end = 0x40000, .kind = MAPPING_FILE, .name = "/gone", .inode = 7}};
    const struct address_space space = {.mappings = mappings, .count = 2};
    struct record_crash crash = {.pid = 77,
                                 .wait_status = 11,
                                 .flags = RECORD_CRASH_STATUS_KNOWN,
                                 .realtime_ns = 5,
                                 .generation_before = 9};
    struct capture capture = {.space = &space, .scratch = &arena};
    struct record_reader reader = {.buffer = buffer};
    struct record_crash found;
    struct record_item item;
    struct problem why;

    writer = (struct record_writer){.buffer = buffer, .size = sizeof buffer};
    CHECK_EQ(capture_cache_create(&capture.cache, &arena), 0);
    CHECK_EQ(crash_record_write(&capture, &crash, &writer, &why), 0);
    for (uint32_t version = RECORD_FORMAT_VERSION + 1; version >= RECORD_FORMAT_OLDEST; version--) {
        memcpy(buffer + 8, &version, sizeof version);
        CHECK_EQ(crash_record_read(&found, buffer, writer.used, &why),
                 version > RECORD_FORMAT_VERSION ? STATUS_NEWER_FORMAT : 0);
    }
    CHECK_EQ(found.pid, 77);
    CHECK_EQ(found.wait_status, 11);
    CHECK_EQ(found.generation_before, 9);
    reader.size = writer.used;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(record_next(&reader, &item), 1);
    CHECK_STR(record_string(&item, sizeof(struct record_mapping)), "/gone");
    CHECK_EQ(record_next(&reader, &item), 0);
    CHECK_EQ(read_status(), STATUS_NEWER_FORMAT);
    for (size_t bytes = 0; bytes < 8 + sizeof crash; bytes++)
        CHECK_EQ(crash_record_read(&found, buffer, bytes, &why), STATUS_DAMAGED);
    writer = (struct record_writer){.buffer = buffer, .size = 64};
    CHECK_EQ(crash_record_write(&capture, &crash, &writer, &why), STATUS_LIMIT);
    put_basic(1);
    CHECK_EQ(crash_record_read(&found, buffer, writer.used, &why), STATUS_DAMAGED);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (arena_create(&arena, 128 << 20) != 0)
        return 1;
    RUN(what_was_written_is_read);
    RUN(every_truncation_is_recognised);
    RUN(flipped_bits_never_crash_the_reader);
    RUN(impossible_mappings_are_refused);
    RUN(impossible_threads_are_refused);
    RUN(impossible_descriptors_are_refused);
    RUN(impossible_attributes_are_refused);
    RUN(impossible_inotify_watches_are_refused);
    RUN(an_object_is_read_with_its_content);
    RUN(impossible_objects_are_refused);
    RUN(older_versions_are_read_and_newer_ones_are_not);
    RUN(impossible_children_are_refused);
    RUN(impossible_shared_memory_is_refused);
    RUN(a_terminal_and_clocks_are_there_once_at_most);
    RUN(a_processor_that_lacks_something_is_told_by_name);
    RUN(a_saved_file_lies_at_a_place_of_the_file_area_once);
    RUN(saved_content_is_of_a_file_that_is_open_or_mapped);
    RUN(an_unknown_item_is_from_a_newer_pheap);
    RUN(a_record_that_does_not_fit_is_failed_for_good);
    RUN(the_record_of_a_crash_says_what_is_known_and_is_no_process);
    arena_destroy(&arena);
    return tap_done();
}
