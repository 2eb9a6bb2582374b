/*  store_disk: a bus's records in one LMDB environment, for one machine.

        PATH/CURRENT      names the folder of the environment in use
        PATH/0000001/     data.mdb, lock.mdb
        PATH/lock         flock of the one writer

    Key: shard u32, last offset u64, big-endian. Value: one batch (two blocks around a
    refused record), big-endian:

         0 "WBK1"                  16 epoch u64             40 body length u64
         4 count u32               24 first sequence u64    48 XXH3-64 of bytes 0..47
         8 first offset u64        32 arrival ms u64           and the body
                                                            56 body

    A thread of its own (the flusher) writes: one synced transaction takes what all shards
    have queued during the last one, at most commit_bytes. Reads run in the caller's
    thread in short transactions.                                                   */
#pragma once
#include "actors/store.h"
#include "runtime/options.h"

typedef struct {
    const char *path; // of the folder, lent
    int64_t map_bytes, map_max_bytes;
    int64_t commit_bytes;
    double compact_at;
    int64_t keep_age_us, keep_bytes, keep_records; // WEIR_FOREVER (all): no bound
    bool hold;
    const char *name; // of the bus, for messages; lent
    bool locked; // the caller has PATH/lock already (the bus's state lies there, too)
} weir_disk_config;

/*  1 GB, 1 TB, 8 MB, 0.5, all, all, all, hold.                                     */
extern const weir_disk_config weir_disk_defaults;

/*  Opens or makes it for writing. Checks the file's size against its pages and the newest
    64 blocks of each shard. Errors with a report that names file, shard and offsets:
    WEIR_EREFUSED (another process writes it), WEIR_EMALFORMED (damage, another version),
    WEIR_ESYS.                                                                      */
weir_err weir_disk_open(weir_store **self_p, const weir_disk_config *config,
                        weir_report *report);

/*  Opens an existing one for reading only, whoever writes it meanwhile: a store whose
    write () answers FATAL. New records are noticed by inotify (watch).             */
weir_err weir_disk_open_readonly(weir_store **self_p, const char *path,
                                 weir_report *report);

/*  The last offset and, in it, the last sequence of this epoch that a shard has.   */
typedef struct {
    uint64_t commits, commit_bytes; // transactions, bytes of bodies in them
    int64_t commit_us;              // spent in them
    uint64_t map_bytes, used_bytes, free_bytes;
    uint64_t compactions;
    bool full;        // the disk, or map_max
    char held_by[64]; // group that holds a full store; "": none
} weir_disk_stats;

void weir_disk_look(weir_store *self, weir_disk_stats *stats);

/*  The ranges that are noted as missing, by shard and offset; *list is the caller's. May
    block shortly on disk. WEIR_EMALFORMED, WEIR_ESYS, with a report.               */
weir_err weir_disk_gaps(weir_store *self, weir_gap **list, size_t *count,
                        weir_report *report);

/* --- Tools, on a folder that nobody writes ----------------------------------------- */

/*  Called for each damaged range: shard 0xffffffff when the environment itself is.  */
typedef void(weir_disk_damage)(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                               const char *text);

/*  Checks every header, checksum and the contiguity of offsets, in a child process: a
    crash there is damage. WEIR_EMALFORMED: there was some, each told. */
weir_err weir_disk_verify(const char *path, weir_disk_damage *damage, void *arg,
                          weir_report *report);

/*  Copies the good blocks to a new folder `to` and notes the gaps there; path stays as it
    is. copied, lost: records.                                                      */
weir_err weir_disk_repair(const char *path, const char *to, uint64_t *copied,
                          uint64_t *lost, weir_report *report);

/*  Applies the bounds once, as keep does (without hold).                           */
weir_err weir_disk_trim(const char *path, int64_t age_us, int64_t bytes, int64_t records,
                        uint64_t *trimmed, weir_report *report);
