#include "runtime/roster.h"
#include "runtime/clock.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

static const char ending[] = ".pub";
static const size_t problems_max = 64;

/* --- Order ------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const weir_cert *)a)->name, ((const weir_cert *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
    const weir_cert *const *x = a, *const *y = b;
    int order = strcmp((*x)->public_key, (*y)->public_key);
    return order ? order : strcmp((*x)->name, (*y)->name);
}

static int match_name(const void *name, const void *cert)
{
    return strcmp(name, ((const weir_cert *)cert)->name);
}

static int match_key(const void *key, const void *cert)
{
    return strcmp(key, (*(const weir_cert *const *)cert)->public_key);
}

const weir_cert *weir_roster_by_name(const weir_roster *self, const char *name)
{
    if (!self->count) return NULL;
    return bsearch(name, self->certs, self->count, sizeof *self->certs, match_name);
}

const weir_cert *weir_roster_by_key(const weir_roster *self, const char *public_key)
{
    if (!self->count) return NULL;
    const weir_cert **found =
        bsearch(public_key, self->by_key, self->count, sizeof *self->by_key, match_key);
    return found ? *found : NULL;
}

/* --- Reading ----------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void
add_problem(weir_roster *self, const char *path, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (self->problems.count < problems_max)
        weir_reports_add(&self->problems, WEIR_EREFUSED, path, "%s", text);
}

static void append(weir_roster *self, const weir_cert *cert, size_t *capacity)
{
    if (self->count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 16;
        self->certs = realloc(self->certs, *capacity * sizeof *self->certs);
        if (!self->certs) abort();
    }
    self->certs[self->count++] = *cert;
}

/*  What the file itself says must fit its name.                               */
static bool accept(weir_roster *self, weir_cert *cert, const char *name, const char *path)
{
    if (*cert->secret_key)
        add_problem(self, path,
                    "it holds a secret, which belongs to its owner alone; "
                    "put his self.pub here");
    else if (!weir_peer_name_is_good(name))
        add_problem(self, path,
                    "the name of the file has to be NAME.pub, with letters, "
                    "digits, '-' and '_'");
    else if (*cert->name && strcmp(cert->name, name))
        add_problem(self, path,
                    "it is the certificate of '%s': the name of the file has "
                    "to be %s.pub",
                    cert->name, cert->name);
    else if (self->count == WEIR_ROSTER_MAX)
        add_problem(self, path, "there are more than %d certificates", WEIR_ROSTER_MAX);
    else
        return true;
    return false;
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO;
}

static weir_err read_one(weir_roster *self, const char *folder, const char *entry,
                         size_t *capacity)
{
    char path[PATH_MAX], name[NAME_MAX + 1];
    weir_cert cert;
    weir_report report;
    snprintf(path, sizeof path, "%s/%s", folder, entry);
    snprintf(name, sizeof name, "%.*s", (int)(strlen(entry) - strlen(ending)), entry);
    weir_err err = weir_cert_read(&cert, path, &report);
    if (err == WEIR_ESYS && is_shortage(errno)) return err;
    if (err)
        add_problem(self, path, "%s", report.text);
    else if (accept(self, &cert, name, path)) {
        snprintf(cert.name, sizeof cert.name, "%.63s", name);
        append(self, &cert, capacity);
    }
    weir_cert_wipe(&cert);
    return WEIR_OK;
}

static bool is_certificate(const char *name)
{
    size_t size = strlen(name), tail = strlen(ending);
    return name[0] != '.' && size > tail && strcmp(name + size - tail, ending) == 0;
}

static weir_err read_entries(weir_roster *self, DIR *folder, const char *path)
{
    size_t capacity = 0;
    struct dirent *entry;
    while (errno = 0, (entry = readdir(folder)))
        if (is_certificate(entry->d_name) &&
            read_one(self, path, entry->d_name, &capacity))
            return WEIR_ESYS;
    return errno ? WEIR_ESYS : WEIR_OK;
}

/*  A key stands for one name: of several the first in the alphabet has it.    */
static void drop_doubles(weir_roster *self, const char *folder)
{
    for (size_t i = 1; i < self->count; i++) {
        const weir_cert *first = self->by_key[i - 1], *second = self->by_key[i];
        if (strcmp(first->public_key, second->public_key)) continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s.pub", folder, second->name);
        add_problem(self, path, "it has the same key as %s.pub", first->name);
    }
    size_t kept = 0;
    for (size_t i = 0; i < self->count; i++)
        if (!kept ||
            strcmp(self->by_key[kept - 1]->public_key, self->by_key[i]->public_key))
            self->by_key[kept++] = self->by_key[i];
    weir_cert *certs = calloc(kept + 1, sizeof *certs);
    if (!certs) abort();
    for (size_t i = 0; i < kept; i++)
        certs[i] = *self->by_key[i];
    free(self->certs);
    self->certs = certs;
    self->count = kept;
}

static void index_keys(weir_roster *self)
{
    free(self->by_key);
    self->by_key = calloc(self->count + 1, sizeof *self->by_key);
    if (!self->by_key) abort();
    for (size_t i = 0; i < self->count; i++)
        self->by_key[i] = &self->certs[i];
    qsort(self->by_key, self->count, sizeof *self->by_key, compare_keys);
}

static void sort(weir_roster *self, const char *folder)
{
    if (!self->count) return;
    index_keys(self);
    drop_doubles(self, folder);
    qsort(self->certs, self->count, sizeof *self->certs, compare_names);
    index_keys(self);
}

weir_err weir_roster_read(weir_roster *self, const char *folder, weir_report *report)
{
    *self = (weir_roster){.read_ms = weir_clock_wall_ms()};
    DIR *dir = opendir(folder);
    if (!dir && errno == ENOENT) return WEIR_OK;
    weir_err err = WEIR_OK;
    if (dir)
        err = read_entries(self, dir, folder);
    else if (is_shortage(errno))
        err = WEIR_ESYS;
    else
        add_problem(self, folder, "cannot read the folder: %s", strerror(errno));
    if (err) weir_report_set(report, err, folder, "cannot read: %s", strerror(errno));
    if (dir) closedir(dir);
    if (err)
        weir_roster_fini(self);
    else
        sort(self, folder);
    return err;
}

void weir_roster_fini(weir_roster *self)
{
    free(self->certs);
    free(self->by_key);
    weir_reports_fini(&self->problems);
    *self = (weir_roster){.certs = NULL};
}

/* --- Time and loss ----------------------------------------------------------------- */

bool weir_cert_is_valid(const weir_cert *self, int64_t wall_ms)
{
    return !self->expires_ms || wall_ms < self->expires_ms;
}

static bool has_lost(const weir_cert *before, const weir_cert *now, int64_t now_ms)
{
    return !now || !weir_cert_is_valid(now, now_ms) || (before->roles & ~now->roles) ||
           strcmp(before->public_key, now->public_key);
}

bool weir_roster_has_lost(const weir_roster *before, const weir_roster *now)
{
    for (size_t i = 0; i < before->count; i++) {
        const weir_cert *cert = &before->certs[i];
        if (weir_cert_is_valid(cert, before->read_ms) &&
            has_lost(cert, weir_roster_by_name(now, cert->name), now->read_ms))
            return true;
    }
    return false;
}

int64_t weir_roster_next_expiry(const weir_roster *self)
{
    int64_t next = 0;
    for (size_t i = 0; i < self->count; i++) {
        int64_t at = self->certs[i].expires_ms;
        if (at > self->read_ms && (!next || at < next)) next = at;
    }
    return next;
}

bool weir_roster_has_problem(const weir_roster *self, const weir_report *problem)
{
    for (size_t i = 0; i < self->problems.count; i++)
        if (strcmp(self->problems.items[i].where, problem->where) == 0 &&
            strcmp(self->problems.items[i].text, problem->text) == 0)
            return true;
    return false;
}
