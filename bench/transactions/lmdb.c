/*
 * lmdb.c - the same of LMDB (measure.h), as far as it has it: an 8-byte value under an 8-byte key
 * is replaced in a transaction that is durable when it returns.
 */
#include <lmdb.h>
#include "bench/transactions/measure.h"

#define MAP_BYTES (512ull << 20)

static MDB_env *environment;
static MDB_dbi table;

static void need(int status, const char *what)
{
    if (status != 0)
        fail(what, mdb_strerror(status));
}

static void update(unsigned thread, uint64_t i)
{
    uint64_t number = (uint64_t)thread * OBJECTS + i * 61 % OBJECTS;
    MDB_val key = {sizeof number, &number}, value = {sizeof i, &i};
    MDB_txn *transaction;

    need(mdb_txn_begin(environment, NULL, 0, &transaction), "begin");
    need(mdb_put(transaction, table, &key, &value, 0), "put");
    need(mdb_txn_commit(transaction), "commit");
}

static void open_table(void)
{
    MDB_txn *transaction;

    need(mdb_txn_begin(environment, NULL, 0, &transaction), "begin");
    need(mdb_dbi_open(transaction, NULL, MDB_CREATE | MDB_INTEGERKEY, &table), "open");
    need(mdb_txn_commit(transaction), "commit");
}

int main(int argc, char **argv)
{
    static const struct measurement all[] = {{"update", update, 1, 1},
                                             {"update-16", update, 1, 16}};
    char path[DIRECTORY_MAX + 32], lock[DIRECTORY_MAX + 40];

    if (argc < 3 || strlen(argv[1]) > DIRECTORY_MAX)
        return 2;
    snprintf(path, sizeof path, "%s/bench-tx.lmdb", argv[1]);
    snprintf(lock, sizeof lock, "%s-lock", path);
    unlink(path);
    need(mdb_env_create(&environment), "create");
    need(mdb_env_set_mapsize(environment, MAP_BYTES), "map size");
    need(mdb_env_open(environment, path, MDB_NOSUBDIR, 0600), path);
    open_table();
    measure_named(all, sizeof all / sizeof all[0], argc, argv);
    mdb_env_close(environment);
    unlink(path);
    unlink(lock);
    return 0;
}
