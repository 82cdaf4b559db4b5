/*
 * id_tree.h - finds things by 64-bit numbers, which an enemy may have chosen.
 *
 * A digital search tree: the bits of a number, the highest first, say where its node goes. So
 * nobody passes more than 64 nodes, whatever the numbers are, and no node is ever moved. A node
 * lies in what it finds, and stays as long as its tree. An empty tree is a NULL.
 *
 * Invariant: a node d steps below the root has its first d bits in common with all below it.
 */
#ifndef PHEAP_BASE_ID_TREE_H
#define PHEAP_BASE_ID_TREE_H

#include <stddef.h>
#include <stdint.h>

struct id_node {
    uint64_t id;
    struct id_node *below[2];
};

/* Where the node with this number is or, if that is NULL, where it is to be put. */
static inline struct id_node **id_tree_place(struct id_node **root, uint64_t id)
{
    struct id_node **place = root;

    for (uint64_t bits = id; *place != NULL && (*place)->id != id; bits <<= 1)
        place = &(*place)->below[bits >> 63];
    return place;
}

#endif
