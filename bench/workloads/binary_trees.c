/*
 * binary_trees.c - one tree of 2^16 nodes lives from begin to end while trees of 2^4 to 2^13 nodes
 * are built, walked and freed beside it.
 */
#include "workload.h"

#define LONG_LIVED_DEPTH 15

struct node {
    struct node *left, *right;
};

static struct node *tree_make(int depth)
{
    struct node *node = make(sizeof *node);

    node->left = depth > 0 ? tree_make(depth - 1) : NULL;
    node->right = depth > 0 ? tree_make(depth - 1) : NULL;
    return node;
}

static uint64_t tree_count(const struct node *node)
{
    return node ? 1 + tree_count(node->left) + tree_count(node->right) : 0;
}

static void tree_free(struct node *node)
{
    if (!node)
        return;
    tree_free(node->left);
    tree_free(node->right);
    free(node);
}

static void run(struct worker *worker)
{
    struct node *long_lived = tree_make(LONG_LIVED_DEPTH);

    for (uint64_t round = 0; round < worker->rounds; round++) {
        int depth = 3 + (int)random_below(&worker->dice, 10);
        struct node *tree = tree_make(depth);

        if (tree_count(tree) != (2u << depth) - 1)
            exit(1);
        tree_free(tree);
    }
    if (tree_count(long_lived) != (2u << LONG_LIVED_DEPTH) - 1)
        exit(1);
    tree_free(long_lived);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 32000, run);
}
