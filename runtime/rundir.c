#include "runtime/rundir.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t name_max = 63; // bytes of a weir's name, and of a bus's

void weir_rundir_path(char path[PATH_MAX])
{
    const char *own = getenv("WEIR_RUN"), *session = getenv("XDG_RUNTIME_DIR");
    if (own && *own)
        snprintf(path, PATH_MAX, "%s", own);
    else if (session && *session)
        snprintf(path, PATH_MAX, "%s/weir", session);
    else if (geteuid() == 0)
        snprintf(path, PATH_MAX, "/run/weir");
    else
        snprintf(path, PATH_MAX, "/tmp/weir-%u", (unsigned)geteuid());
}

/*  Who may write in it could put a socket of his own in the place of ours, so a folder
    that is there already must be ours; after mkdir nobody else can replace it.   */
weir_err weir_rundir_open(const char *folder, weir_report *report)
{
    struct stat st;
    if (mkdir(folder, 0700) && errno != EEXIST)
        return weir_report_set(report, WEIR_ESYS, folder,
                               "cannot make the run folder: %s; set WEIR_RUN",
                               strerror(errno));
    if (lstat(folder, &st))
        return weir_report_set(report, WEIR_ESYS, folder,
                               "cannot examine the run folder: %s", strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return weir_report_set(report, WEIR_EREFUSED, folder,
                               "the run folder must be a folder, and no symbolic link; "
                               "remove it or set WEIR_RUN");
    if (st.st_uid != geteuid())
        return weir_report_set(report, WEIR_EREFUSED, folder,
                               "the run folder belongs to user %u; set WEIR_RUN",
                               (unsigned)st.st_uid);
    if (st.st_mode & 077)
        return weir_report_set(report, WEIR_EREFUSED, folder,
                               "others have access to the run folder: chmod 700 it, or "
                               "set WEIR_RUN");
    return WEIR_OK;
}

static weir_err check_name(const char *name, size_t longest, weir_report *report)
{
    size_t size = strlen(name);
    if (size > 0 && size <= longest && name[0] != '.' && !strchr(name, '/'))
        return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "the name '%s' cannot be a socket's: set settings.name to one "
                           "of 1 to %zu bytes without '/' that does not begin with '.'",
                           name, longest);
}

static weir_err check_path(int size, const char *folder, const char *what,
                           weir_report *report)
{
    if (size >= 0 && size < WEIR_IPC_PATH_MAX) return WEIR_OK;
    return weir_report_set(report, WEIR_ETOOBIG, folder,
                           "the path of the %s socket has %d bytes, %d are allowed: "
                           "set WEIR_RUN to a shorter folder",
                           what, size, WEIR_IPC_PATH_MAX - 1);
}

weir_err weir_rundir_socket(const char *folder, const char *name,
                            char path[WEIR_IPC_PATH_MAX], weir_report *report)
{
    weir_err err = check_name(name, name_max, report);
    if (err) return err;
    int size = snprintf(path, WEIR_IPC_PATH_MAX, "%s/%s.sock", folder, name);
    return check_path(size, folder, "control", report);
}

weir_err weir_rundir_bus(const char *folder, const char *name, const char *bus,
                         char path[WEIR_IPC_PATH_MAX], weir_report *report)
{
    weir_err err = check_name(name, name_max, report);
    if (err) return err;
    int size = snprintf(path, WEIR_IPC_PATH_MAX, "%s/%s.%s.bus", folder, name, bus);
    return check_path(size, folder, "bus's", report);
}

/* --- Lock -------------------------------------------------------------------------- */

static int open_lock(const char *path)
{
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    return open(path, flags, 0600);
}

/*  The file that is locked may have been removed by its last owner meanwhile, and
    another one made under the same name: then the lock is worth nothing.         */
static bool is_the_file(int fd, const char *path)
{
    struct stat open_st, named_st;
    return fstat(fd, &open_st) == 0 && stat(path, &named_st) == 0 &&
           open_st.st_dev == named_st.st_dev && open_st.st_ino == named_st.st_ino;
}

static weir_err is_taken(int fd, const char *name, const char *path, weir_report *report)
{
    char pid[24] = "";
    ssize_t size = pread(fd, pid, sizeof pid - 1, 0);
    pid[size > 0 ? (size_t)size : 0] = 0;
    pid[strcspn(pid, "\n")] = 0;
    return weir_report_set(report, WEIR_EREFUSED, path,
                           "a weir named '%s' runs already%s%s: set settings.name", name,
                           *pid ? ", process " : "", pid);
}

static void note_process(int fd)
{
    char text[24];
    int size = snprintf(text, sizeof text, "%d\n", (int)getpid());
    /*  For people only; the lock holds without it.                               */
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)size, 0) < 0) return;
}

weir_err weir_rundir_lock(int *fd, const char *folder, const char *name,
                          weir_report *report)
{
    char path[PATH_MAX + 160];
    *fd = -1;
    weir_err err = check_name(name, 2 * name_max + 1, report);
    if (err) return err;
    snprintf(path, sizeof path, "%s/%s.lock", folder, name);
    for (;;) {
        int lock = open_lock(path);
        if (lock < 0)
            return weir_report_set(report, WEIR_ESYS, path, "cannot open: %s",
                                   strerror(errno));
        bool held = flock(lock, LOCK_EX | LOCK_NB) == 0;
        if (held && is_the_file(lock, path)) {
            note_process(lock);
            *fd = lock;
            return WEIR_OK;
        }
        if (!held) err = is_taken(lock, name, path, report);
        close(lock);
        if (err) return err;
    }
}

void weir_rundir_unlock(int *fd, const char *folder, const char *name)
{
    char path[PATH_MAX + 160];
    if (*fd < 0) return;
    snprintf(path, sizeof path, "%s/%s.lock", folder, name);
    unlink(path);
    close(*fd);
    *fd = -1;
}
