/* thrash.c - active false sharing: do objects of different threads come from one cache line? */
#include "false_sharing.h"

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 800000, write_new_objects);
}
