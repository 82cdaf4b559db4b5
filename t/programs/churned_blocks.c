/*
 * churned_blocks.c - THREADS threads that allocate and free blocks of all sizes, ROUNDS times each.
 * A block is filled when it is made and looked at when it goes; calloc's is looked at when it
 * comes. Much of the heap is free at any time, and is handed out again. Prints how many blocks were
 * as expected; ends with 1 at the first that was not.
 *
 *     churned_blocks 0 MB: touches and frees MB megabytes in pieces, says "freed", and waits
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 192

struct block {
    unsigned char *start;
    size_t bytes;
    unsigned char fill;
};

struct churner {
    pthread_t thread;
    uint64_t state;
    unsigned long rounds, right;
    struct block blocks[BLOCKS];
};

static uint64_t next(struct churner *churner)
{
    churner->state = churner->state * 6364136223846793005u + 1442695040888963407u;
    return churner->state >> 24;
}

static int is_filled(const unsigned char *start, size_t bytes, unsigned char fill)
{
    return bytes == 0 || (start[0] == fill && memcmp(start, start + 1, bytes - 1) == 0);
}

static size_t size_of_next(struct churner *churner)
{
    static const size_t limits[] = {64, 512, 4096, 32768, 262144, 3u << 20};

    return 1 + next(churner) % limits[next(churner) % 6];
}

static void wrong(const struct block *block, const char *what)
{
    printf("%s: block of %zu bytes at %p\n", what, block->bytes, (void *)block->start);
    _exit(1);
}

static void renew(struct churner *churner, struct block *block)
{
    int by_calloc = next(churner) % 2 == 0;

    if (block->start && !is_filled(block->start, block->bytes, block->fill))
        wrong(block, "not as it was filled");
    free(block->start);
    block->start = NULL;
    if (next(churner) % 3 == 0)
        return; /* the place stays free for a while */
    block->bytes = size_of_next(churner);
    block->start = by_calloc ? calloc(1, block->bytes) : malloc(block->bytes);
    if (!block->start)
        wrong(block, "no memory");
    if (by_calloc && !is_filled(block->start, block->bytes, 0))
        wrong(block, "calloc gave other than zeroes");
    block->fill = (unsigned char)next(churner);
    memset(block->start, block->fill, block->bytes);
}

static void *churn(void *argument)
{
    struct churner *churner = argument;

    for (; churner->rounds > 0; churner->rounds--) {
        renew(churner, &churner->blocks[next(churner) % BLOCKS]);
        churner->right++;
        if (churner->rounds % 64 == 0)
            usleep(1000);
    }
    return NULL;
}

/* What is freed is written first; a word of each piece is kept. */
static int free_much(size_t megabytes)
{
    void **pieces = calloc(megabytes, sizeof *pieces);

    for (size_t i = 0; pieces && i < megabytes; i++) {
        pieces[i] = malloc(1u << 20);
        if (!pieces[i])
            return 1;
        memset(pieces[i], (int)i + 1, 1u << 20);
    }
    for (size_t i = 0; pieces && i < megabytes; i++)
        free(pieces[i]);
    printf("freed\n");
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000, right = 0;
    struct churner *churners = calloc(threads + 1, sizeof *churners);

    if (threads == 0)
        return free_much(rounds);
    for (unsigned i = 0; i < threads; i++) {
        churners[i].state = i + 1;
        churners[i].rounds = rounds;
        pthread_create(&churners[i].thread, NULL, churn, &churners[i]);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(churners[i].thread, NULL);
        right += churners[i].right;
    }
    printf("%lu\n", right);
    return 0;
}
