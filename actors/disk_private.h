/*  disk_private: what the disk store and its tools agree on. No one else includes it.

        PATH/CURRENT     name of the environment's folder, seven digits and a newline
        PATH/0000001/    data.mdb, lock.mdb
        PATH/lock        flock of the one who writes, shared by tools that only read

    Databases of an environment; keys and values of the first two are disk_block.h's:

        blocks   (shard, last offset)      -> header and records
        gaps     (shard, last offset)      -> first offset, kind
        fences   (to, first offset)        -> (from, last offset), packed as keys are;
                 MDB_DUPSORT: a batch may end the moves of several shards; they go
                 when nothing is left of what they wait for
        meta     "version"                 -> 4 bytes, big-endian: 2
                 "shard", id               -> what it has in all: disk_block.h
                 "fences"                  -> sum over all of them
                 "superseded"              -> any: CURRENT names another one

    Of each shard blocks and gaps cover the offsets from 1 to its last one, each exactly
    once; what was trimmed is a gap, too, and neighbours of one kind are one gap. Version
    1 has no counts and no sum; who opens it for writing adds them.                   */
#pragma once
#include <lmdb.h>
#include "actors/disk_block.h"
#include "runtime/options.h"

#define WEIR_DISK_VERSION 2
#define WEIR_DISK_VERSION_UNCOUNTED 1
#define WEIR_DISK_DATABASES 4 // for mdb_env_set_maxdbs
#define WEIR_DISK_BLOCKS "blocks"
#define WEIR_DISK_GAPS "gaps"
#define WEIR_DISK_FENCES "fences"
#define WEIR_DISK_META "meta"
#define WEIR_DISK_META_VERSION "version"
#define WEIR_DISK_META_SUPERSEDED "superseded"
#define WEIR_DISK_META_FENCES "fences"

/*  "PATH/0000001".                                                                 */
#define WEIR_DISK_FOLDER_MAX 4200

/*  Keeps others from writing in the store at path until *fd is closed. exclusive: to
    write in it; makes the file `lock`. Else to read what stands still: changes nothing,
    and *fd is -1 where there is no such file. WEIR_EREFUSED (another process has it,
   which is named), WEIR_ENOTFOUND (there is no folder), WEIR_ESYS, with a report. */
weir_err weir_disk_lock(int *fd, const char *path, bool exclusive, weir_report *report);

/*  The folder of the environment in use. WEIR_ENOTFOUND (there is no CURRENT),
    WEIR_EMALFORMED (it is none), WEIR_ESYS, with a report.                         */
weir_err weir_disk_current(char folder[WEIR_DISK_FOLDER_MAX], const char *path,
                           weir_report *report);

/*  Whether the file of an environment that was just opened is as long as its meta pages
    say, but for free pages: a map of a shorter one raises SIGBUS. WEIR_EMALFORMED with a
    report.                                                                         */
weir_err weir_disk_check_size(MDB_env *env, const char *folder, weir_report *report);

/*  Checks the pages of data.mdb in that folder, which nobody writes; all: those of the
    table blocks, too. WEIR_EMALFORMED (what is damaged), WEIR_ENOTFOUND, WEIR_ESYS, with
    a report (disk_check.c).                                                          */
weir_err weir_disk_check_pages(const char *folder, bool all, weir_report *report);

/*  Reports damage in a sentence that says what to do; folder: of the environment.   */
weir_err weir_disk_damaged(weir_report *report, const char *folder, const char *format,
                           ...) __attribute__((format(printf, 3, 4)));

/*  What is kept of a shard. INT64_MAX (all, forever): no bound.                    */
typedef struct {
    int64_t age_us, bytes, records;
} weir_disk_keep;

/*  Whether the oldest block, which arrived then, has to go when the blocks behind it have
    so many bytes of records and so many records.                                   */
static inline bool weir_disk_keep_drops(const weir_disk_keep *self, uint64_t rest_bytes,
                                        uint64_t rest_records, int64_t arrived_ms,
                                        int64_t now_ms)
{
    return rest_bytes >= (uint64_t)self->bytes ||
           rest_records >= (uint64_t)self->records ||
           (self->age_us != WEIR_FOREVER && now_ms - arrived_ms > self->age_us / 1000);
}
