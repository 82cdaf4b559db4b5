/*
 * recovery_check_opened.c - what the checker says of opened heaps whose memory was changed before a
 * generation of it was taken: all checksums are right then.
 */
#include <stdlib.h>
#include "core/tx/block.h"
#include "recovery/check/check.h"
#include "t/lib/tx_fixture.h"

#define BLOCKS 100

static void *blocks[BLOCKS], *large;

static void build(void)
{
    struct pheap_tx *tx = NULL;

    fixture_create();
    CHECK_OK(tx_begin(heap, &tx));
    for (int i = 0; i < BLOCKS; i++)
        CHECK_OK(tx_alloc(tx, 100, 7, &blocks[i]));
    CHECK_OK(tx_alloc(tx, 300000, 8, &large));
    CHECK_OK(root_set(tx, "first", blocks[0], 7));
    CHECK_OK(root_set(tx, "large", large, 8));
    CHECK_OK(tx_commit(tx));
}

static struct finding last;

static void note_finding(void *context, const struct finding *finding)
{
    (void)context;
    last = *finding;
    tap_note("%s: expected %s, found %s", finding_id(finding->kind), finding->expected,
             finding->found);
}

/* Takes a generation of it as it is and checks that; the worst that was found. */
static enum severity check_now(void)
{
    static struct check_result result;
    const struct check_request request = {.path = fixture_path, .found = note_finding};

    memset(&last, 0, sizeof last);
    CHECK(fixture_checkpoint() > 0);
    CHECK_EQ(opened_close(heap), 0);
    CHECK_OK(check_pool(&request, &result, &why));
    return result.worst;
}

static struct tx_span *span_of(const void *block)
{
    return block_span(&heap->memory,
                      (uint32_t)(((uintptr_t)block - heap->memory.base) >> SLICE_SHIFT));
}

static struct tx_root *roots(void)
{
    return (struct tx_root *)(heap->memory.base + TX_ROOTS_OFFSET);
}

static void a_heap_as_it_should_be_is_fine(void)
{
    build();
    CHECK_EQ(check_now(), SEVERITY_NONE);
}

static void expect_damage(enum finding_kind kind, const void *address)
{
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(last.kind, kind);
    if (address)
        CHECK_EQ(last.place.address, (uintptr_t)address);
}

static void spans_that_contradict_each_other_are_found(void)
{
    build();
    span_of(blocks[0])->size_class = 200;
    expect_damage(OH_SPAN, (void *)((uintptr_t)blocks[0] & ~(SLICE_BYTES - 1ull)));
    build();
    span_of(large)->bytes = 1;
    expect_damage(OH_SPAN, large);
    build();
    span_of(large)->bytes = 1ull << 50;
    expect_damage(OH_SPAN, large);
    build();
    span_of(large)[2].kind = TX_SLAB;
    expect_damage(OH_SPAN, large);
    build();
    span_of(blocks[0])->kind = TX_INSIDE;
    expect_damage(OH_SPAN, NULL);
    build();
    span_of(blocks[0])->kind = 17;
    expect_damage(OH_SPAN, NULL);
}

static void a_block_that_an_image_cannot_show_is_found(void)
{
    struct block block;

    build();
    CHECK(block_find(&heap->memory, (uintptr_t)blocks[3], &block));
    block.note->bytes_and_state = 100 << 2 | TX_FREEING;
    expect_damage(OH_NOTE, block.note);
    build();
    CHECK(block_find(&heap->memory, (uintptr_t)blocks[3], &block));
    block.note->bytes_and_state = 113 << 2 | TX_USED;
    expect_damage(OH_NOTE, block.note);
}

static void a_header_of_another_slot_or_version_is_found(void)
{
    struct tx_header *header;

    build();
    header = (struct tx_header *)heap->memory.base;
    header->slot++;
    expect_damage(OH_HEADER, header);
    build();
    header->version++;
    expect_damage(OH_HEADER, header);
}

static void roots_are_looked_at(void)
{
    build();
    roots()[0].address = heap->memory.base + 64;
    expect_damage(OH_ROOT, &roots()[0]);
    build();
    memset(roots()[1].name, 'x', TX_NAME_BYTES);
    expect_damage(OH_ROOT, &roots()[1]);
    build();
    roots()[0].type = 9;
    CHECK_EQ(check_now(), SEVERITY_HARMLESS);
    CHECK_EQ(last.kind, OH_TYPE);
    build();
    roots()[0].address += 100 * SLICE_BYTES;
    CHECK_EQ(check_now(), SEVERITY_HARMLESS);
    CHECK_EQ(last.kind, OH_DANGLING);
    build();
    roots()[1].address += 3 * SLICE_BYTES + 5; /* into the large block */
    CHECK_EQ(check_now(), SEVERITY_NONE);
}

/* In a child, since it is the heap's own memory. */
static void any_bits_of_it_are_looked_at_without_a_fault(void)
{
    for (unsigned seed = 1; seed <= 40; seed++) {
        uint8_t *areas[3];
        const size_t sizes[] = {4096 + sizeof(struct tx_root) * 4, 32 * 16, 8 * 200};

        build();
        srand(seed);
        areas[0] = (uint8_t *)heap->memory.base + 8;
        areas[1] = (uint8_t *)block_span(&heap->memory, TX_DATA_SLICE);
        areas[2] = (uint8_t *)block_slice_address(&heap->memory, TX_DATA_SLICE);
        for (unsigned i = 0; i < 1 + seed % 20; i++) {
            unsigned area = (unsigned)rand() % 3;

            areas[area][(unsigned)rand() % sizes[area]] ^= (uint8_t)(1 << rand() % 8);
        }
        (void)check_now();
    }
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    fixture_begin();
    RUN(a_heap_as_it_should_be_is_fine);
    RUN(spans_that_contradict_each_other_are_found);
    RUN(a_block_that_an_image_cannot_show_is_found);
    RUN(a_header_of_another_slot_or_version_is_found);
    RUN(roots_are_looked_at);
    RUN(any_bits_of_it_are_looked_at_without_a_fault);
    fixture_end();
    return tap_done();
}
