#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/disk_private.h"
#include "runtime/files.h"

/* --- lock -------------------------------------------------------------------------- */

/*  "process 1234", or that it is not known: the one who has the lock may not have written
    that yet.                                                                       */
static void name_writer(int fd, char text[32])
{
    char number[16] = "";
    ssize_t size = pread(fd, number, sizeof number - 1, 0);
    long pid = size > 0 ? strtol(number, NULL, 10) : 0;
    if (pid > 0)
        snprintf(text, 32, "process %ld", pid);
    else
        snprintf(text, 32, "another process");
}

/*  Only people read it; whether it can be written does not matter.                 */
static void note_writer(int fd)
{
    char number[16];
    int size = snprintf(number, sizeof number, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, number, (size_t)size, 0) < 0) return;
}

weir_err weir_disk_lock(int *fd, const char *path, weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX], who[32];
    snprintf(file, sizeof file, "%s/lock", path);
    *fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return weir_report_set(report, errno == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS, path,
                               "cannot open its lock: %s", strerror(errno));
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
        note_writer(*fd);
        return WEIR_OK;
    }
    int saved = errno;
    name_writer(*fd, who);
    close(*fd);
    *fd = -1;
    errno = saved;
    if (saved != EWOULDBLOCK)
        return weir_report_set(report, WEIR_ESYS, file, "cannot lock it: %s",
                               strerror(saved));
    return weir_report_set(report, WEIR_EREFUSED, path,
                           "%s writes this store: stop it first", who);
}

/* --- CURRENT ----------------------------------------------------------------------- */

/*  Seven digits and a newline, so that it names nothing outside of the store.      */
static bool is_name(const char *text, size_t size)
{
    return size == 8 && strspn(text, "0123456789") == 7 && text[7] == '\n';
}

weir_err weir_disk_current(char folder[WEIR_DISK_FOLDER_MAX], const char *path,
                           weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX], *text;
    size_t size;
    unsigned mode;
    snprintf(file, sizeof file, "%s/CURRENT", path);
    weir_err err = weir_read_file(file, 64, &text, &size, &mode);
    if (err == WEIR_ENOTFOUND)
        return weir_report_set(report, err, path,
                               "no store of a bus is here: there is no file CURRENT");
    if (err == WEIR_ESYS)
        return weir_report_set(report, err, file, "cannot read: %s", strerror(errno));
    bool good = !err && is_name(text, size);
    if (good) snprintf(folder, WEIR_DISK_FOLDER_MAX, "%s/%.7s", path, text);
    if (!err) free(text);
    if (good) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, file,
                           "it does not name a folder such as 0000001");
}

/* --- data.mdb ---------------------------------------------------------------------- */

weir_err weir_disk_check_size(MDB_env *env, const char *folder, weir_report *report)
{
    MDB_envinfo info;
    MDB_stat pages;
    struct stat st;
    int fd;
    if (mdb_env_get_fd(env, &fd) || fstat(fd, &st))
        return weir_report_set(report, WEIR_ESYS, folder, "cannot look at data.mdb: %s",
                               strerror(errno));
    mdb_env_info(env, &info);
    mdb_env_stat(env, &pages);
    uint64_t need = ((uint64_t)info.me_last_pgno + 1) * pages.ms_psize;
    if ((uint64_t)st.st_size >= need) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, folder,
                           "data.mdb was cut: it has %lld bytes of %llu",
                           (long long)st.st_size, (unsigned long long)need);
}
