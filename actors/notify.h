/*  notify: tells which files of some folders were written to, and that names have
    come or gone, by inotify. It only ever saves time: whoever uses it looks for
    himself now and then, since links to other folders, network file systems and a
    full queue hide changes. Serves one thread.                                */
#pragma once
#include "actors/paths.h"

typedef struct weir_notify weir_notify;

/*  NULL: there is no inotify to be had, errno says why.                       */
weir_notify *weir_notify_new(void);
void weir_notify_destroy(weir_notify **self_p);

/*  Readable when weir_notify_read has something.                              */
int weir_notify_fd(const weir_notify *self);

/*  Watches the folders of the last scan, and no others. False: some of them cannot
    be watched.                                                                */
bool weir_notify_watch(weir_notify *self, const weir_paths *paths);

/*  Reads what has gathered; does not block. written gets the path of each file that
    was written to, spelled as a pattern's match. True: names came or went, or
    something was missed: everything is to be looked at.                       */
typedef void(weir_notify_handler)(void *arg, const char *path);
bool weir_notify_read(weir_notify *self, weir_notify_handler *written, void *arg);
