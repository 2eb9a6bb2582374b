/*  files: what several keepers of files need.                                 */
#pragma once
#include "runtime/err.h"

/*  Makes the name of a new file durable: fsync of the folder that holds it. Blocks on
    disk. WEIR_ESYS with errno.                                                */
weir_err weir_sync_folder(const char *path);
