/*
 * tls_block.c - a library with 64 bytes of static thread-local storage, of which glibc has a small
 * reserve for libraries that are opened later: all share it.
 */
char *tls_block(void);

static __thread char block[64] __attribute__((tls_model("initial-exec")));

char *tls_block(void)
{
    block[0]++;
    return block;
}
