/*  The tools of the disk store that read what may be damaged: verify and repair.   */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/bus_db.h"
#include "actors/disk_fill.h"
#include "actors/disk_walk.h"
#include "actors/identity.h"
#include "actors/store_disk.h"
#include "runtime/files.h"

/* --- Verify ------------------------------------------------------------------------ */

/*  What a shard has, as it was counted and as it is found.                          */
typedef struct {
    uint32_t shard;
    bool told; // the store has counted it
    bool lost; // some of it is damaged: its counts cannot be right
    weir_disk_counts counted, found;
} tally;

typedef struct {
    weir_disk_damage *damage;
    void *arg;
    uint64_t found;
    bool counts;              // the store keeps them
    tally *tallies;           // owned
    size_t tally_count, last; // the one that was asked for last
} verifier;

static tally *tally_of(verifier *self, uint32_t shard)
{
    if (self->last < self->tally_count && self->tallies[self->last].shard == shard)
        return &self->tallies[self->last];
    for (self->last = 0; self->last < self->tally_count; self->last++)
        if (self->tallies[self->last].shard == shard) return &self->tallies[self->last];
    self->tallies =
        realloc(self->tallies, (self->tally_count + 1) * sizeof *self->tallies);
    if (!self->tallies) abort();
    self->tallies[self->tally_count] = (tally){.shard = shard};
    return &self->tallies[self->tally_count++];
}

static weir_err see_counts(void *arg, uint32_t shard, const weir_disk_counts *counts)
{
    verifier *self = arg;
    tally *is = tally_of(self, shard);
    self->counts = is->told = true;
    is->counted = *counts;
    return WEIR_OK;
}

static weir_err see_block(void *arg, weir_disk_key key, const weir_disk_head *head,
                          const void *value, size_t size)
{
    tally *is = tally_of(arg, key.shard);
    (void)value, (void)size;
    is->found.bytes += head->body_bytes;
    is->found.last = key.last;
    return WEIR_OK;
}

static weir_err see_gap(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                        bool damaged)
{
    tally *is = tally_of(arg, shard);
    *(damaged ? &is->found.damaged : &is->found.trimmed) += last - first + 1;
    is->found.last = last;
    return WEIR_OK;
}

static weir_err see_fence(void *arg, const uint8_t key[WEIR_DISK_KEY_SIZE],
                          const uint8_t value[WEIR_DISK_KEY_SIZE])
{
    (void)arg, (void)key, (void)value;
    return WEIR_OK;
}

static weir_err see_lost(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                         const char *text)
{
    verifier *self = arg;
    self->found++;
    if (shard != WEIR_DISK_NO_SHARD) tally_of(self, shard)->lost = true;
    self->damage(self->arg, shard, first, last, text);
    return WEIR_OK;
}

/*  Where nothing is lost, what is found is what was counted.                        */
static void compare(verifier *self)
{
    char text[160];
    for (size_t i = 0; self->counts && i < self->tally_count; i++) {
        const tally *is = &self->tallies[i];
        if (is->lost || (is->told && !memcmp(&is->counted, &is->found, sizeof is->found)))
            continue;
        snprintf(text, sizeof text,
                 "shard %" PRIu32 " ends at offset %" PRIu64 " and has %" PRIu64
                 " bytes, counted were %" PRIu64 " and %" PRIu64,
                 is->shard, is->found.last, is->found.bytes, is->counted.last,
                 is->counted.bytes);
        see_lost(self, WEIR_DISK_NO_SHARD, 0, 0, text);
    }
}

/*  What leads to the blocks, where nothing was lost by it.                          */
static weir_err verify_pages(const char *folder, verifier *self, weir_report *report)
{
    weir_report why = {0};
    weir_err err = weir_disk_check_pages(folder, true, &why);
    if (err == WEIR_EMALFORMED) return see_lost(self, WEIR_DISK_NO_SHARD, 0, 0, why.text);
    if (err && report) *report = why;
    return err;
}

/*  The bus's state, when it lies in the same folder.                                */
static weir_err verify_state(const char *path, verifier *self, weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX], text[600];
    weir_report why = {0};
    snprintf(file, sizeof file, "%s/groups.mdb", path);
    weir_err err = weir_bus_db_verify(file, &why);
    if (err == WEIR_ENOTFOUND) return WEIR_OK;
    snprintf(text, sizeof text, "groups.mdb: %s", why.text);
    if (err == WEIR_EMALFORMED) return see_lost(self, WEIR_DISK_NO_SHARD, 0, 0, text);
    if (err && report) *report = why;
    return err;
}

/*  Without a CURRENT that can be read there is nothing to look at, which is damage only
    where there was a store.                                                        */
static weir_err verify_folder(const char *path, verifier *self, weir_report *report)
{
    const weir_disk_visitor visitor = {see_block, see_gap, see_lost,  see_fence,
                                       self,      false,   see_counts};
    char folder[WEIR_DISK_FOLDER_MAX];
    weir_err err = weir_disk_current(folder, path, report);
    if (!err) err = weir_disk_walk(folder, &visitor, report);
    if (!err) compare(self);
    if (!err && !self->found) err = verify_pages(folder, self, report);
    if (!err) err = verify_state(path, self, report);
    if (err || !self->found) return err;
    return weir_report_set(report, WEIR_EMALFORMED, path,
                           "it is damaged in %" PRIu64 " place%s", self->found,
                           self->found == 1 ? "" : "s");
}

weir_err weir_disk_verify(const char *path, weir_disk_damage *damage, void *arg,
                          weir_report *report)
{
    verifier self = {.damage = damage, .arg = arg};
    int lock;
    weir_err err = weir_disk_lock(&lock, path, false, report);
    if (err) return err;
    err = verify_folder(path, &self, report);
    free(self.tallies);
    if (lock >= 0) close(lock);
    return err;
}

/* --- Repair ------------------------------------------------------------------------ */

typedef struct {
    weir_disk_fill *to;
    uint64_t copied, lost; // records
    uint32_t shard;        // what is copied now
    uint64_t next;         // its first offset that is neither copied nor noted
    weir_report *report;
} repairer;

static void come_to(repairer *self, uint32_t shard)
{
    if (shard != self->shard) self->next = 1;
    self->shard = shard;
}

static weir_err copy_block(void *arg, weir_disk_key key, const weir_disk_head *head,
                           const void *value, size_t size)
{
    repairer *self = arg;
    come_to(self, key.shard);
    self->copied += head->count;
    self->next = key.last + 1;
    return weir_disk_fill_block(self->to, key, value, size, self->report);
}

static weir_err copy_gap(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                         bool damaged)
{
    repairer *self = arg;
    come_to(self, shard);
    self->next = last + 1;
    return weir_disk_fill_gap(self->to, shard, first, last, damaged, self->report);
}

/*  Each offset is to be noted once, however often it is lost. */
static weir_err note_lost(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                          const char *text)
{
    repairer *self = arg;
    (void)text;
    if (shard == WEIR_DISK_NO_SHARD) return WEIR_OK;
    come_to(self, shard);
    if (first < self->next) first = self->next;
    if (last < first || last == UINT64_MAX) return WEIR_OK;
    self->lost += last - first + 1;
    return copy_gap(self, shard, first, last, true);
}

static weir_err copy_fence(void *arg, const uint8_t key[WEIR_DISK_KEY_SIZE],
                           const uint8_t value[WEIR_DISK_KEY_SIZE])
{
    repairer *self = arg;
    return weir_disk_fill_fence(self->to, key, value, self->report);
}

static weir_err copy_file(const char *from, const char *to, const char *name,
                          weir_report *report)
{
    static const size_t max_bytes = (size_t)1 << 30;
    char path[WEIR_DISK_FOLDER_MAX], *data;
    size_t size;
    unsigned mode;
    snprintf(path, sizeof path, "%s/%s", from, name);
    weir_err err = weir_read_file(path, max_bytes, &data, &size, &mode);
    if (err == WEIR_ENOTFOUND) return WEIR_OK;
    if (err)
        return weir_report_set(report, err, path, "cannot read: %s",
                               err == WEIR_ESYS ? strerror(errno) : weir_err_name(err));
    snprintf(path, sizeof path, "%s/%s", to, name);
    err = weir_replace_file(path, data, size, mode, true);
    free(data);
    if (!err) return WEIR_OK;
    return weir_report_set(report, err, path, "cannot write: %s", strerror(errno));
}

/*  Of a damaged table the rows that are good, as far as the bus's identity says whose
    they are. */
static weir_err copy_groups(const char *from, const char *to, weir_report *report)
{
    char path[WEIR_DISK_FOLDER_MAX], copy[WEIR_DISK_FOLDER_MAX];
    weir_identity identity;
    uint64_t rows;
    snprintf(path, sizeof path, "%s/identity", from);
    bool known = !weir_identity_read(&identity, path, NULL);
    snprintf(path, sizeof path, "%s/groups.mdb", from);
    snprintf(copy, sizeof copy, "%s/groups.mdb", to);
    if (!known || weir_bus_db_verify(path, NULL) != WEIR_EMALFORMED)
        return copy_file(from, to, "groups.mdb", report);
    return weir_bus_db_salvage(path, copy, identity.nonce, &rows, report);
}

/*  The bus's state, when it lies in the same folder: without it the copy would be another
    bus, and its groups would begin anew.                                           */
static weir_err copy_state(const char *from, const char *to, weir_report *report)
{
    weir_err err = copy_file(from, to, "identity", report);
    return err ? err : copy_groups(from, to, report);
}

static weir_err copy_store(const char *path, const char *to, repairer *self)
{
    const weir_disk_visitor visitor = {copy_block, copy_gap, note_lost, copy_fence,
                                       self,       true,     NULL};
    char folder[WEIR_DISK_FOLDER_MAX], data[WEIR_DISK_FOLDER_MAX];
    struct stat st = {0};
    weir_err err = weir_disk_current(folder, path, self->report);
    if (err) return err;
    snprintf(data, sizeof data, "%.4100s/data.mdb", folder);
    if (stat(data, &st))
        return weir_report_set(self->report, WEIR_ESYS, data, "cannot read: %s",
                               strerror(errno));
    err = weir_disk_fill_open(&self->to, to, (uint64_t)st.st_size, self->report);
    if (!err) err = weir_disk_walk(folder, &visitor, self->report);
    if (!err) err = copy_state(path, to, self->report);
    if (!err) err = weir_disk_fill_close(self->to, self->report);
    weir_disk_fill_destroy(&self->to);
    return err;
}

weir_err weir_disk_repair(const char *path, const char *to, uint64_t *copied,
                          uint64_t *lost, weir_report *report)
{
    repairer self = {.shard = WEIR_DISK_NO_SHARD, .next = 1, .report = report};
    int lock;
    weir_err err = weir_disk_lock(&lock, path, false, report);
    if (err) return err;
    err = copy_store(path, to, &self);
    if (lock >= 0) close(lock);
    *copied = self.copied;
    *lost = self.lost;
    return err;
}
