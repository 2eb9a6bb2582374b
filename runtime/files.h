/*  files: what several keepers of files need.                                 */
#pragma once
#include "runtime/err.h"

/*  Makes the name of a new file durable: fsync of the folder that holds it. Blocks on
    disk. WEIR_ESYS with errno.                                                */
weir_err weir_sync_folder(const char *path);

/*  Makes a folder, mode 0700, and those above it that are missing, each durably; what is
    there is left as it is. Blocks on disk. WEIR_ESYS with errno.              */
weir_err weir_make_folders(const char *path);

/*  Puts a file in the place of what has that name, so that there is always a whole one;
    nobody but its owner can read it before it has its mode. durable: on disk when this
    returns, and with its name. Blocks on disk. WEIR_ESYS with errno; then all is as it
    was.                                                                       */
weir_err weir_replace_file(const char *path, const void *data, size_t size, unsigned mode,
                           bool durable);

/*  Writes all of it, and waits where somebody has made the descriptor non-blocking.
    WEIR_ESYS with errno; some of it may be written then.                      */
weir_err weir_write_all(int fd, const void *data, size_t size);

/*  Reads a whole file into one allocation, the caller's to free (and to overwrite, if
    it is secret: there is no other copy), and gives its mode. Does not wait for a pipe.
    WEIR_ENOTFOUND, WEIR_ETOOBIG (above max bytes), WEIR_EINVAL (it is no file),
    WEIR_ESYS with errno.                                                      */
weir_err weir_read_file(const char *path, size_t max, char **text, size_t *size,
                        unsigned *mode);
