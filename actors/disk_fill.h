/*  disk_fill: makes a new disk store from blocks that come in order. It is one once it is
    closed: CURRENT is written last. Private to the tools of the disk store. One thread;
    all of it blocks on disk.                                                       */
#pragma once
#include "actors/disk_private.h"

typedef struct weir_disk_fill weir_disk_fill;

/*  Makes the folder (an empty one may be there) with room for so many bytes of data.mdb.
    WEIR_EREFUSED (something is there), WEIR_ESYS, with a report.                   */
weir_err weir_disk_fill_open(weir_disk_fill **self_p, const char *path, uint64_t bytes,
                             weir_report *report);

/*  Each as it will be stored, in the order of shards and offsets; gaps of one kind that
    are neighbours become one. Fences come in the order of their keys. WEIR_ESYS with a
    report.                                                                         */
weir_err weir_disk_fill_block(weir_disk_fill *self, weir_disk_key key, const void *value,
                              size_t size, weir_report *report);
weir_err weir_disk_fill_gap(weir_disk_fill *self, uint32_t shard, uint64_t first,
                            uint64_t last, bool damaged, weir_report *report);
weir_err weir_disk_fill_fence(weir_disk_fill *self, const uint8_t key[WEIR_DISK_KEY_SIZE],
                              const uint8_t value[WEIR_DISK_KEY_SIZE],
                              weir_report *report);

/*  Makes it a store, durably. Destroyed without that, it is none.                  */
weir_err weir_disk_fill_close(weir_disk_fill *self, weir_report *report);
void weir_disk_fill_destroy(weir_disk_fill **self_p);
