#include "actors/identity.h"
#include "runtime/files.h"
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

enum { identity_size = 32, hashed_size = 24, read_max = 4096 };

static const char magic[8] = {'W', 'E', 'I', 'R', 'B', 'U', 'S', '1'};

static uint64_t get_u64(const char *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

static void put_u64(char *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

uint64_t weir_identity_nonce(void)
{
    uint64_t nonce = 0;
    while (nonce == 0)
        if (getrandom(&nonce, sizeof nonce, 0) < 0) abort();
    return nonce;
}

/*  What is wrong with the bytes; NULL: nothing.                                    */
static const char *find_fault(const char *data, size_t size)
{
    if (size >= sizeof magic && memcmp(data, magic, sizeof magic))
        return "this is no identity of a Weir bus";
    if (size != identity_size) return "it does not have 32 bytes";
    if (get_u64(data + 24) != XXH3_64bits(data, hashed_size))
        return "its checksum is wrong";
    if (get_u64(data + 8) == 0 || get_u64(data + 16) == 0)
        return "its nonce or epoch is 0";
    return NULL;
}

static weir_err refuse(weir_report *report, const char *path, const char *fault)
{
    return weir_report_set(report, WEIR_EMALFORMED, path,
                           "bad_identity: %s; put a backup of the whole folder in its "
                           "place, or name another `state`",
                           fault);
}

weir_err weir_identity_read(weir_identity *self, const char *path, weir_report *report)
{
    char *data;
    size_t size;
    unsigned mode;
    *self = (weir_identity){0};
    weir_err err = weir_read_file(path, read_max, &data, &size, &mode);
    if (err == WEIR_ENOTFOUND) return err;
    if (err == WEIR_ESYS)
        return weir_report_set(report, err, path, "cannot read the identity: %s",
                               strerror(errno));
    if (err == WEIR_EINVAL) return refuse(report, path, "it is no file");
    if (err) return refuse(report, path, "it does not have 32 bytes");
    const char *fault = find_fault(data, size);
    if (!fault)
        *self = (weir_identity){.nonce = get_u64(data + 8), .epoch = get_u64(data + 16)};
    free(data);
    return fault ? refuse(report, path, fault) : WEIR_OK;
}

weir_err weir_identity_write(const weir_identity *self, const char *path,
                             weir_report *report)
{
    char data[identity_size];
    memcpy(data, magic, sizeof magic);
    put_u64(data + 8, self->nonce);
    put_u64(data + 16, self->epoch);
    put_u64(data + 24, XXH3_64bits(data, hashed_size));
    if (weir_replace_file(path, data, sizeof data, 0600, true) == WEIR_OK) return WEIR_OK;
    return weir_report_set(report, WEIR_ESYS, path, "cannot write the identity: %s",
                           strerror(errno));
}

/*  True for the temporary name that weir_replace_file makes of `name`.             */
static bool is_temporary(const char *entry, const char *name)
{
    size_t size = strlen(name);
    return !strncmp(entry, name, size) && entry[size] == '.' &&
           strlen(entry + size) == strlen(".XXXXXX");
}

void weir_identity_sweep(const char *path)
{
    char folder[PATH_MAX], name[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    snprintf(name, sizeof name, "%s", path);
    DIR *entries = opendir(dirname(folder));
    if (!entries) return;
    const char *base = basename(name);
    for (struct dirent *entry; (entry = readdir(entries));)
        if (is_temporary(entry->d_name, base)) unlinkat(dirfd(entries), entry->d_name, 0);
    closedir(entries);
}
