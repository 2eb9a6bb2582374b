/*  host: the program `weir`.                                                  */
#include <malloc.h>
#include "lua/command.h"

/*  Bodies of blocks are made in one thread and freed in another, thousands a second:
    giving their pages back to the kernel each time costs more than using them.  */
static void keep_pages(void)
{
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    mallopt(M_TOP_PAD, 1 << 20);
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
}

int main(int argc, char **argv)
{
    keep_pages();
    return weir_main(argc, argv);
}
