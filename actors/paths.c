#include "actors/paths.h"
#include <assert.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*  Strings, each owned.                                                       */
typedef struct {
    char **items;
    size_t count;
    size_t capacity;
} list;

struct weir_paths {
    list patterns; // as configured
    list files;    // of the last scan, sorted
    list folders;  // of the last scan, sorted
};

/*  glob (3) hands its callback nothing of ours.                               */
static _Thread_local weir_report *glob_report;

/* --- Lists ------------------------------------------------------------------------- */

static void list_clear(list *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->items[i]);
    self->count = 0;
}

static void list_fini(list *self)
{
    list_clear(self);
    free(self->items);
    *self = (list){0};
}

static void list_add(list *self, const char *text, size_t size)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 16;
        self->items = realloc(self->items, self->capacity * sizeof *self->items);
        if (!self->items) abort();
    }
    char *copy = strndup(text, size);
    if (!copy) abort();
    self->items[self->count++] = copy;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_sort_unique(list *self)
{
    if (self->count == 0) return;
    qsort(self->items, self->count, sizeof *self->items, compare);
    size_t kept = 1;
    for (size_t i = 1; i < self->count; i++)
        if (compare(&self->items[i], &self->items[kept - 1]) == 0)
            free(self->items[i]);
        else
            self->items[kept++] = self->items[i];
    self->count = kept;
}

/* --- Scanning ---------------------------------------------------------------------- */

static bool is_wild(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (strchr("*?[\\", text[i])) return true;
    return false;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int note_unreadable(const char *path, int error)
{
    if (error != ENOENT && error != ENOTDIR && glob_report && !glob_report->text[0])
        weir_report_set(glob_report, WEIR_ESYS, path, "cannot read the folder: %s",
                        strerror(error));
    return 0;
}

/*  What a pattern matches, unsorted; an unreadable folder is noted and passed over. */
static weir_err expand(const char *pattern, glob_t *found, weir_report *report)
{
    glob_report = report;
    int result = glob(pattern, GLOB_NOSORT, note_unreadable, found);
    glob_report = NULL;
    if (result == GLOB_NOSPACE) abort();
    return result == 0 ? WEIR_OK : WEIR_ENOTFOUND;
}

/*  One path that a pattern has matched, or a pattern without wildcards.       */
static void add_file(weir_paths *self, const char *path, bool literal,
                     weir_report *report)
{
    struct stat info;
    bool noted = !literal || !report || report->text[0];
    if (stat(path, &info) < 0) {
        if (!noted && errno != ENOENT && errno != ENOTDIR)
            weir_report_set(report, WEIR_ESYS, path, "cannot find the file: %s",
                            strerror(errno));
    } else if (S_ISREG(info.st_mode))
        list_add(&self->files, path, strlen(path));
    else if (!noted)
        weir_report_set(report, WEIR_EINVAL, path,
                        "this is no regular file; name files%s",
                        S_ISDIR(info.st_mode) ? ", such as those in it by /*" : "");
}

static void add_files(weir_paths *self, const char *pattern, weir_report *report)
{
    glob_t found = {0};
    if (!is_wild(pattern, strlen(pattern)))
        add_file(self, pattern, true, report);
    else if (expand(pattern, &found, report) == WEIR_OK)
        for (size_t i = 0; i < found.gl_pathc; i++)
            add_file(self, found.gl_pathv[i], false, report);
    globfree(&found);
}

/*  The folder itself, or the nearest above it that exists.                    */
static void add_existing(weir_paths *self, const char *folder, size_t size)
{
    char *path = strndup(folder, size);
    if (!path) abort();
    while (*path && !is_folder(path)) {
        char *slash = strrchr(path, '/');
        if (slash == path && path[1])
            path[1] = 0;
        else if (slash && slash != path)
            *slash = 0;
        else
            *path = 0;
    }
    if (!*path) strcpy(path, ".");
    list_add(&self->folders, path, strlen(path));
    free(path);
}

static void add_matching(weir_paths *self, const char *pattern, size_t size)
{
    char *prefix = strndup(pattern, size);
    if (!prefix) abort();
    glob_t found = {0};
    if (expand(prefix, &found, NULL) == WEIR_OK)
        for (size_t i = 0; i < found.gl_pathc; i++)
            if (is_folder(found.gl_pathv[i]))
                list_add(&self->folders, found.gl_pathv[i], strlen(found.gl_pathv[i]));
    globfree(&found);
    free(prefix);
}

/*  The folder of the first component with a wildcard, and every folder that the
    components from there on match, except the last one, which names files.    */
static void add_folders(weir_paths *self, const char *pattern)
{
    bool wild = false;
    size_t from = 0;
    for (;;) {
        const char *slash = strchr(pattern + from, '/');
        size_t end = slash ? (size_t)(slash - pattern) : strlen(pattern);
        bool first = !wild && (is_wild(pattern + from, end - from) || !slash);
        if (first) {
            size_t base = from > 1 ? from - 1 : from;
            add_existing(self, base ? pattern : ".", base ? base : 1);
            wild = true;
        }
        if (!slash) return;
        if (wild) add_matching(self, pattern, end);
        from = end + 1;
    }
}

weir_err weir_paths_scan(weir_paths *self, weir_report *report)
{
    list_clear(&self->files);
    list_clear(&self->folders);
    for (size_t i = 0; i < self->patterns.count; i++) {
        add_files(self, self->patterns.items[i], report);
        add_folders(self, self->patterns.items[i]);
    }
    list_sort_unique(&self->files);
    list_sort_unique(&self->folders);
    return WEIR_OK;
}

/* --- Lifecycle --------------------------------------------------------------------- */

weir_err weir_paths_new(weir_paths **self_p, const char *const *patterns, size_t count,
                        weir_report *report)
{
    *self_p = NULL;
    assert(count > 0);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(patterns[i]);
        if (size == 0)
            return weir_report_set(report, WEIR_EINVAL, NULL, "the path is empty");
        if (patterns[i][size - 1] == '/')
            return weir_report_set(report, WEIR_EINVAL, NULL,
                                   "'%s' is a folder; name its files, such as %s*",
                                   patterns[i], patterns[i]);
    }
    weir_paths *self = calloc(1, sizeof *self);
    if (!self) abort();
    for (size_t i = 0; i < count; i++)
        list_add(&self->patterns, patterns[i], strlen(patterns[i]));
    *self_p = self;
    return WEIR_OK;
}

void weir_paths_destroy(weir_paths **self_p)
{
    weir_paths *self = *self_p;
    if (!self) return;
    list_fini(&self->patterns);
    list_fini(&self->files);
    list_fini(&self->folders);
    free(self);
    *self_p = NULL;
}

size_t weir_paths_files(const weir_paths *self)
{
    return self->files.count;
}

const char *weir_paths_file(const weir_paths *self, size_t i)
{
    assert(i < self->files.count);
    return self->files.items[i];
}

bool weir_paths_has(const weir_paths *self, const char *path)
{
    if (self->files.count == 0) return false;
    return bsearch(&path, self->files.items, self->files.count, sizeof path, compare);
}

size_t weir_paths_folders(const weir_paths *self)
{
    return self->folders.count;
}

const char *weir_paths_folder(const weir_paths *self, size_t i)
{
    assert(i < self->folders.count);
    return self->folders.items[i];
}
