/*
 * strings.c - string churn: sentences are put together word by word, each step a new string that
 * replaces the shorter one, then split into words that replace older ones in a dictionary.
 */
#include "workload.h"

#define WORDS        20000
#define SENTENCE_MAX 12

static char *word_make(uint64_t *dice)
{
    size_t length = random_size(dice, 1, 15);
    char *word = make(length + 1);

    memset(word, 'a' + (int)random_below(dice, 26), length);
    word[length] = 0;
    return word;
}

/* A new string: both, with a space between. The first is freed. */
static char *append(char *text, const char *word)
{
    size_t length = strlen(text), more = strlen(word);
    char *longer = make(length + more + 2);

    memcpy(longer, text, length);
    longer[length] = ' ';
    memcpy(longer + length + 1, word, more + 1);
    free(text);
    return longer;
}

static void split(char **dictionary, const char *text, uint64_t *dice)
{
    while (*text) {
        size_t length = strcspn(text, " ");
        char **place = &dictionary[random_below(dice, WORDS)];

        free(*place);
        *place = strndup(text, length);
        text += length + (text[length] == ' ');
    }
}

static void run(struct worker *worker)
{
    char **dictionary = make(WORDS * sizeof *dictionary);

    for (int i = 0; i < WORDS; i++)
        dictionary[i] = word_make(&worker->dice);
    for (uint64_t round = 0; round < worker->rounds; round++) {
        char *sentence = word_make(&worker->dice);

        for (size_t words = random_size(&worker->dice, 4, SENTENCE_MAX); words > 0; words--)
            sentence = append(sentence, dictionary[random_below(&worker->dice, WORDS)]);
        split(dictionary, sentence, &worker->dice);
        free(sentence);
    }
    for (int i = 0; i < WORDS; i++)
        free(dictionary[i]);
    free(dictionary);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 900000, run);
}
