/*  paths: the files that glob patterns match now, and the folders to watch so as to
    see when that changes. Serves one thread.                                  */
#pragma once
#include "runtime/err.h"

typedef struct weir_paths weir_paths;

/*  Patterns as of glob (3), at least one; they are copied. Errors: WEIR_EINVAL with a
    report: an empty pattern, or one that ends in a slash.                     */
weir_err weir_paths_new(weir_paths **self_p, const char *const *patterns, size_t count,
                        weir_report *report);
void weir_paths_destroy(weir_paths **self_p);

/*  Looks again; blocks on disk. WEIR_OK; an empty report is filled with the first
    thing in the way (a folder that cannot be read, a path without wildcards that is
    no regular file), and the other files are there.                           */
weir_err weir_paths_scan(weir_paths *self, weir_report *report);

/*  What the last scan has found: regular files (also through symbolic links), sorted
    by bytes, each path once. Lent until the next scan.                        */
size_t weir_paths_files(const weir_paths *self);
const char *weir_paths_file(const weir_paths *self, size_t i);

/*  True when a file of that path was there at the last scan.                  */
bool weir_paths_has(const weir_paths *self, const char *path);

/*  The folders in which a name that comes or goes may change the answer: sorted, each
    once, all of them there at the last scan. A folder that a pattern needs and that
    is missing is stood for by the nearest one above it.                       */
size_t weir_paths_folders(const weir_paths *self);
const char *weir_paths_folder(const weir_paths *self, size_t i);
