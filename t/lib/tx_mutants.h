/*
 * tx_mutants.h - for tests that compile sources of core/tx into themselves: the fault that they
 * have now (core/tx/mutant.h). Comes before those sources.
 */
#ifndef PHEAP_T_LIB_TX_MUTANTS_H
#define PHEAP_T_LIB_TX_MUTANTS_H

#include "core/tx/mutant.h"

static enum tx_mutant tx_mutant;
#undef TX_MUTANT
#define TX_MUTANT(name) (tx_mutant == (name))

#endif
