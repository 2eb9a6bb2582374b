#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "actors/disk_store.h"

/*  So many damaged blocks are passed by one read, since each is read for its checksum. */
enum { passed_max = 64 };

typedef struct {
    weir_read *read;
    uint64_t position; // last offset that was read or passed
    uint32_t records;  // taken
    size_t bytes;      // of them
    uint32_t passed;   // blocks
    weir_disk_way way; // to the blocks
    uint64_t last;     // offset of the shard's last record; 0: not known
} progress;

static void add_gap(progress *self, uint64_t last, bool damaged)
{
    weir_read_add_gap(self->read, &(weir_gap){.shard = self->read->shard,
                                              .first = self->position + 1,
                                              .last = last,
                                              .damaged = damaged});
    self->position = last;
}

/* --- Chunks ------------------------------------------------------------------------ */

/*  Part of a block: the first record that is asked for, and as many as fit.         */
typedef struct {
    size_t from, to; // bytes of the body
    uint32_t skipped, records;
} part;

/*  A store keeps no origins: all records have one that says nothing.               */
static weir_block *wrap(const uint8_t *body, size_t size, uint32_t records,
                        void (*free_body)(void *hint))
{
    weir_run run = {.records = records};
    return weir_block_wrap(body, size, records, &run, 1, free_body, (void *)body);
}

static part choose(const progress *self, const weir_disk_head *head, const uint8_t *body)
{
    const weir_read *read = self->read;
    uint64_t skip = self->position >= head->first ? self->position - head->first + 1 : 0;
    uint32_t room = read->max_records - self->records, n = 0;
    size_t fits = read->max_bytes > self->bytes ? read->max_bytes - self->bytes : 0;
    if (!skip && head->count <= room && head->body_bytes <= fits)
        return (part){0, head->body_bytes, 0, head->count};
    weir_block *block = wrap(body, head->body_bytes, head->count, NULL);
    weir_iterator walk = {.block = block};
    weir_record record;
    part is = {.skipped = (uint32_t)skip};
    while (n < skip && weir_iterator_next(&walk, &record, NULL))
        n++;
    is.from = is.to = walk.offset;
    while (is.records < room && weir_iterator_next(&walk, &record, NULL)) {
        if (walk.offset - is.from > fits && (is.records || self->records)) break;
        is.to = walk.offset;
        is.records++;
    }
    weir_block_destroy(&block);
    return is;
}

static void add_chunk(progress *self, const weir_disk_head *head, const uint8_t *body,
                      part is)
{
    weir_read *read = self->read;
    uint8_t *copy = malloc(is.to - is.from);
    read->chunks = realloc(read->chunks, (read->chunk_count + 1) * sizeof *read->chunks);
    if (!copy || !read->chunks) abort();
    memcpy(copy, body + is.from, is.to - is.from);
    self->position = head->first + is.skipped + is.records - 1;
    self->records += is.records;
    self->bytes += is.to - is.from;
    read->chunks[read->chunk_count++] = (weir_chunk){
        .block = wrap(copy, is.to - is.from, is.records, free),
        .last = {self->position, 0},
        .offset = head->first + is.skipped,
        .epoch = head->epoch,
        .sequence = head->sequence + is.skipped,
        .arrived_ms = head->arrived_ms,
    };
}

/*  False: no more fits.                                                            */
static bool read_block(progress *self, weir_disk_key key, const MDB_val *value)
{
    weir_disk_head head;
    const uint8_t *body = (const uint8_t *)value->mv_data + WEIR_DISK_HEAD_SIZE;
    if (weir_disk_block_check(&head, key, value->mv_data, value->mv_size, NULL)) {
        add_gap(self, key.last, true);
        return ++self->passed < passed_max;
    }
    if (head.first > self->position + 1) add_gap(self, head.first - 1, true);
    part is = choose(self, &head, body);
    if (!is.records) return false;
    add_chunk(self, &head, body, is);
    return self->position == key.last && self->records < self->read->max_records &&
           self->bytes < self->read->max_bytes;
}

/* --- Walking ----------------------------------------------------------------------- */

/*  The gap that covers the next offset, if one does, is passed.                     */
static int pass_gap(progress *self, const weir_disk_env *env, MDB_txn *txn, bool *passed)
{
    weir_disk_packed packed;
    weir_disk_key at;
    weir_disk_gap gap;
    MDB_cursor *cursor;
    MDB_val value, key = *weir_disk_pack(&packed, self->read->shard, self->position + 1);
    *passed = false;
    int rc = mdb_cursor_open(txn, env->gaps, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (!rc && weir_disk_unpack(&at, &key) && at.shard == self->read->shard &&
        weir_disk_gap_read(&gap, at, value.mv_data, value.mv_size) &&
        gap.first <= self->position + 1) {
        add_gap(self, at.last, gap.damaged);
        *passed = true;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int check_way(progress *self, MDB_txn *txn)
{
    weir_disk_key next = {self->read->shard, self->position + 1};
    return weir_disk_check_way(txn, &self->way, next, WEIR_DISK_READS);
}

/*  Asks for the pages of a value at once: a fault would bring what the kernel reads
    around it, which is megabytes and takes longer. Who reads on is served by that, so
   only the first value of a read is asked for. */
static void ask_for(const MDB_val *value)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)value->mv_data;
    uintptr_t begin = at & ~(page - 1);
    if (value->mv_size < page) return;
    madvise((void *)begin, at - begin + value->mv_size, MADV_WILLNEED);
}

/*  The next block of the shard; MDB_NOTFOUND: it has no more, MDB_CORRUPTED: it should.
 */
static int find_block(progress *self, MDB_txn *txn, MDB_cursor *cursor, weir_disk_key *at,
                      MDB_val *value)
{
    weir_disk_packed packed;
    MDB_val key = *weir_disk_pack(&packed, self->read->shard, self->position + 1);
    int rc = check_way(self, txn);
    if (!rc) rc = mdb_cursor_get(cursor, &key, value, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND) return rc;
    if (!rc && !weir_disk_unpack(at, &key)) return MDB_CORRUPTED;
    if (rc || at->shard != self->read->shard)
        return self->position < self->last ? MDB_CORRUPTED : MDB_NOTFOUND;
    if (self->last && at->last > self->last) return MDB_CORRUPTED;
    return at->last > self->position ? 0 : MDB_CORRUPTED;
}

/*  From the next offset on: gaps that are noted, then a block.                      */
static int walk_blocks(progress *self, const weir_disk_env *env, MDB_txn *txn,
                       MDB_cursor *cursor)
{
    weir_disk_key at;
    MDB_val value;
    bool more = true, passed;
    while (more) {
        int rc = pass_gap(self, env, txn, &passed);
        if (rc) return rc;
        if (passed) continue;
        rc = find_block(self, txn, cursor, &at, &value);
        if (rc) return rc == MDB_NOTFOUND ? 0 : rc;
        if (!self->records && !self->passed) ask_for(&value);
        more = read_block(self, at, &value);
    }
    self->read->more = true; // unless this was the last one
    return 0;
}

static int walk(progress *self, const weir_disk_env *env, MDB_txn *txn)
{
    MDB_cursor *cursor;
    int rc = weir_disk_last_of(env, txn, self->read->shard, &self->last);
    if (rc || self->position >= self->last) return rc;
    rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    rc = walk_blocks(self, env, txn, cursor);
    mdb_cursor_close(cursor);
    self->read->more = self->read->more && self->position < self->last;
    return rc;
}

static void fail(weir_read *read, weir_err err, const char *text)
{
    read->err = err;
    snprintf(read->text, sizeof read->text, "%.255s", text);
}

static void read_inside(weir_disk *self, weir_read *read)
{
    progress is = {.read = read, .position = read->after.a};
    weir_report report = {0};
    MDB_txn *txn;
    weir_err err = weir_disk_read_begin(self, &txn, &report);
    if (err) {
        fail(read, err, report.text);
        return;
    }
    int rc = read->since_ms ? weir_disk_find_since(&self->env, txn, read->shard,
                                                   read->since_ms, &is.position)
                            : 0;
    if (!rc && is.position < UINT64_MAX && read->max_records)
        rc = walk(&is, &self->env, txn);
    if (rc > 0) fail(read, WEIR_ESYS, mdb_strerror(rc));
    if (rc < 0) {
        weir_disk_damaged(&report, self->env.folder,
                          "shard %" PRIu32 " behind offset %" PRIu64 ": %s", read->shard,
                          is.position, weir_disk_strerror(rc));
        fail(read, WEIR_EMALFORMED, report.text);
    }
    weir_disk_read_end(self, &txn);
    read->reached.a = is.position;
}

void weir_disk_read(weir_store *store, weir_read *read)
{
    read->err = WEIR_OK;
    read->text[0] = '\0';
    read->chunks = NULL;
    read->gaps = NULL;
    read->chunk_count = read->gap_count = 0;
    read->reached = (weir_position){read->after.a, 0};
    read->more = false;
    read_inside((weir_disk *)store, read);
    read->done(read);
}
