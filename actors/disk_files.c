#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/disk_private.h"
#include "actors/lmdb_pages.h"
#include "runtime/files.h"

/* --- lock -------------------------------------------------------------------------- */

/*  "process 1234", or that it is not known. The kernel's list has lines such as
    "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; that of one who waits has "->".  */
static void name_holder(int fd, char text[32])
{
    struct stat st;
    char line[160];
    long pid;
    unsigned long inode;
    FILE *list = fopen("/proc/locks", "re");
    snprintf(text, 32, "another process");
    while (list && fstat(fd, &st) == 0 && fgets(line, sizeof line, list))
        if (sscanf(line, "%*d: FLOCK %*s %*s %ld %*x:%*x:%lu", &pid, &inode) == 2 &&
            inode == (unsigned long)st.st_ino && pid > 0)
            snprintf(text, 32, "process %ld", pid);
    if (list) fclose(list);
}

static weir_err cannot_lock(const char *path, weir_report *report)
{
    return weir_report_set(report, errno == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS, path,
                           "cannot open its lock: %s", strerror(errno));
}

weir_err weir_disk_lock(int *fd, const char *path, bool exclusive, weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX], who[32];
    snprintf(file, sizeof file, "%s/lock", path);
    *fd = open(file, (exclusive ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0600);
    if (*fd < 0 && !exclusive && errno == ENOENT && access(path, F_OK) == 0)
        return WEIR_OK;
    if (*fd < 0) return cannot_lock(path, report);
    if (flock(*fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return WEIR_OK;
    bool taken = errno == EWOULDBLOCK;
    weir_report_set(report, WEIR_ESYS, file, "cannot lock it: %s", strerror(errno));
    if (taken) name_holder(*fd, who);
    close(*fd);
    *fd = -1;
    if (!taken) return WEIR_ESYS;
    return weir_report_set(report, WEIR_EREFUSED, path,
                           "%s uses this store: end it first", who);
}

/* --- CURRENT ----------------------------------------------------------------------- */

/*  Seven digits and a newline, so that it names nothing outside of the store.      */
static bool is_name(const char *text, size_t size)
{
    return size == 8 && strspn(text, "0123456789") == 7 && text[7] == '\n';
}

/*  The state of a bus may lie alone.                                               */
static weir_err is_no_store(const char *path, weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX];
    snprintf(file, sizeof file, "%s/identity", path);
    return access(file, F_OK)
               ? weir_report_set(report, WEIR_ENOTFOUND, path,
                                 "no store of a bus is here: there is no file CURRENT")
               : weir_report_set(report, WEIR_ENOTFOUND, path,
                                 "no store of a bus is here, but the state of one whose "
                                 "records lie elsewhere: those on a server are shown "
                                 "while the bus runs, by NAME/BUS");
}

weir_err weir_disk_current(char folder[WEIR_DISK_FOLDER_MAX], const char *path,
                           weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX], *text;
    size_t size;
    unsigned mode;
    snprintf(file, sizeof file, "%s/CURRENT", path);
    weir_err err = weir_read_file(file, 64, &text, &size, &mode);
    if (err == WEIR_ENOTFOUND) return is_no_store(path, report);
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

/*  Pages at the end may never have been written, and are free then.                 */
static bool is_cut(const char *data)
{
    weir_lmdb_file file;
    bool is = weir_lmdb_open(&file, data) != 0 ||
              !weir_lmdb_check_tree(&file, &file.free, WEIR_LMDB_FREE) ||
              weir_lmdb_is_cut(&file);
    weir_lmdb_close(&file);
    return is;
}

weir_err weir_disk_check_size(MDB_env *env, const char *folder, weir_report *report)
{
    char data[WEIR_DISK_FOLDER_MAX + 16];
    MDB_envinfo info;
    MDB_stat pages;
    struct stat st;
    int fd;
    if (mdb_env_get_fd(env, &fd) || fstat(fd, &st))
        return weir_report_set(report, WEIR_ESYS, folder, "cannot look at data.mdb: %s",
                               strerror(errno));
    mdb_env_info(env, &info);
    mdb_env_stat(env, &pages);
    snprintf(data, sizeof data, "%s/data.mdb", folder);
    uint64_t need = ((uint64_t)info.me_last_pgno + 1) * pages.ms_psize;
    if ((uint64_t)st.st_size >= need || !is_cut(data)) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, folder,
                           "data.mdb was cut: it has %lld bytes of %llu",
                           (long long)st.st_size, (unsigned long long)need);
}
