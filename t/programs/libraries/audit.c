/*
 * audit.c - an auditor of the dynamic linker (LD_AUDIT) that does nothing; with one, ld.so loads
 * and calls things in another order, and has a second libc.
 */
unsigned la_version(unsigned version);

unsigned la_version(unsigned version)
{
    return version;
}
