#include "lua/secrets.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "runtime/files.h"
#include "runtime/redact.h"

static const unsigned others_mask = 0027; // group may read, and nobody else anything

/* --- One file ---------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static void put_folder(const weir_secrets *self, const char *beside,
                       char folder[PATH_MAX])
{
    const char *given = getenv("CREDENTIALS_DIRECTORY");
    if (self->folder)
        snprintf(folder, PATH_MAX, "%s", self->folder);
    else if (given && *given)
        snprintf(folder, PATH_MAX, "%s", given);
    else
        snprintf(folder, PATH_MAX, "%s/weir-secrets", beside);
}

/*  Who may put another file there decides what it holds.                        */
static weir_err check_folder(const char *folder, weir_report *report)
{
    struct stat st;
    if (stat(folder, &st) || !(st.st_mode & S_IWOTH)) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, NULL,
                           "everybody may write the folder %s: chmod o-w it", folder);
}

static weir_err check_mode(const char *path, unsigned mode, weir_report *report)
{
    if (!(mode & others_mask)) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, NULL,
                           "others may read or change %s (mode %04o): chmod 600 it, or "
                           "640 for its group",
                           path, mode);
}

static weir_err tell_failure(weir_err err, const char *path, weir_report *report)
{
    if (err == WEIR_ENOTFOUND)
        return weir_report_set(report, err, NULL, "there is no file %s", path);
    if (err == WEIR_EINVAL)
        return weir_report_set(report, err, NULL, "%s is no file", path);
    if (err == WEIR_ETOOBIG)
        return weir_report_set(report, err, NULL, "%s is larger than 64KB", path);
    return weir_report_set(report, err, NULL, "cannot read %s: %s", path,
                           strerror(errno));
}

static weir_err check_text(const char *path, const char *text, size_t size,
                           weir_report *report)
{
    if (!size) return weir_report_set(report, WEIR_EINVAL, NULL, "%s is empty", path);
    if (memchr(text, 0, size))
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "%s holds a zero byte, which no text of Weir can", path);
    if (weir_redact_add(text, size)) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "%s has fewer than %d bytes: a text that short cannot be kept "
                           "out of logs",
                           path, WEIR_REDACT_MIN);
}

static weir_err read_secret(weir_secret *secret, const char *path, weir_report *report)
{
    unsigned mode;
    weir_err err =
        weir_read_file(path, WEIR_SECRET_MAX, &secret->text, &secret->size, &mode);
    if (err) return tell_failure(err, path, report);
    if (secret->size && secret->text[secret->size - 1] == '\n') secret->size--;
    err = check_mode(path, mode, report);
    return err ? err : check_text(path, secret->text, secret->size, report);
}

static void destroy_secret(weir_secret *secret)
{
    if (secret->text) explicit_bzero(secret->text, secret->size);
    free(secret->text);
    free(secret->name);
    free(secret);
}

/* --- All of a topology ------------------------------------------------------------- */

const weir_secret *weir_secrets_find(const weir_secrets *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->items[i]->name, name) == 0) return self->items[i];
    return NULL;
}

static const weir_secret *add(weir_secrets *self, weir_secret *secret, const char *name)
{
    secret->name = strdup(name);
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!secret->name || !self->items) abort();
    self->items[self->count++] = secret;
    return secret;
}

weir_err weir_secrets_read(weir_secrets *self, const weir_secret **secret,
                           const char *name, const char *beside, weir_report *report)
{
    char folder[PATH_MAX], path[PATH_MAX + 256];
    *secret = weir_secrets_find(self, name);
    if (*secret) return WEIR_OK;
    if (!is_name(name))
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "its name is that of a file in the secrets folder: no "
                               "slash, not empty, and not . or ..");
    put_folder(self, beside, folder);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    weir_secret *found = calloc(1, sizeof *found);
    if (!found) abort();
    weir_err err = check_folder(folder, report);
    if (!err) err = read_secret(found, path, report);
    if (!err)
        *secret = add(self, found, name);
    else
        destroy_secret(found);
    return self->optional ? WEIR_OK : err;
}

void weir_secrets_fini(weir_secrets *self)
{
    for (size_t i = 0; i < self->count; i++)
        destroy_secret(self->items[i]);
    free(self->items);
    free(self->folder);
    *self = (weir_secrets){0};
}
