#include "runtime/files.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

weir_err weir_sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (!copy) abort();
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0) return WEIR_ESYS;
    int bad = fsync(fd), saved = errno;
    close(fd);
    errno = saved;
    return bad ? WEIR_ESYS : WEIR_OK;
}
