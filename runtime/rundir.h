/*  rundir: the folder in which running weirs are found by their names.

        $WEIR_RUN, else $XDG_RUNTIME_DIR/weir, else /run/weir for root,
        else /tmp/weir-UID

            NAME.sock   the control endpoint, while one of that name runs
            NAME.lock   held (flock) by it; holds its process id
            NAME.BUS.bus, NAME.BUS.lock   the same for the endpoint of a bus of it

    It is ours alone (0700), so what lies in it was put there by us.             */
#pragma once
#include <limits.h>
#include "runtime/err.h"

#define WEIR_IPC_PATH_MAX 108 // bytes with the final 0: sockaddr_un

/*  Where it is, whether it is there or not.                                     */
void weir_rundir_path(char path[PATH_MAX]);

/*  Makes it if needed and checks it: a folder, no symbolic link, owned by us, no access
    for others. The report names the path and what to do.                        */
weir_err weir_rundir_open(const char *folder, weir_report *report);

/*  The path of the control socket of a name. WEIR_EINVAL: such a name cannot be a
    file's; WEIR_ETOOBIG: the path is longer than a socket's may be.              */
weir_err weir_rundir_socket(const char *folder, const char *name,
                            char path[WEIR_IPC_PATH_MAX], weir_report *report);

/*  The same for the endpoint of a bus of that weir.                             */
weir_err weir_rundir_bus(const char *folder, const char *name, const char *bus,
                         char path[WEIR_IPC_PATH_MAX], weir_report *report);

/*  Takes the name (NAME or NAME.BUS) for this process; the lock is held while the
    descriptor is open. WEIR_EREFUSED: another process has it. */
weir_err weir_rundir_lock(int *fd, const char *folder, const char *name,
                          weir_report *report);

/*  Gives the name back and removes the lock's file. *fd becomes -1; -1 is accepted. */
void weir_rundir_unlock(int *fd, const char *folder, const char *name);
