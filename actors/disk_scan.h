/*  disk_scan: what the child of disk_walk does: reads an environment from a place on and
    tells what it finds, through a pipe. It may crash at any time; what it is about to
    touch it has told before.                                                       */
#pragma once
#include "actors/disk_private.h"

typedef enum {
    WEIR_SCAN_GAPS = 0,
    WEIR_SCAN_FENCES,
    WEIR_SCAN_COUNTS,
    WEIR_SCAN_BLOCKS,
    WEIR_SCAN_DONE,
} weir_scan_phase;

typedef struct {
    const char *folder; // of the environment
    weir_scan_phase phase;
    weir_disk_key from; // of BLOCKS: the lowest key
    bool values;        // tells them, too
    bool again;         // not the first child: what is wrong in general is told
} weir_scan;

typedef enum {
    WEIR_TOLD_PHASE, // what comes now
    WEIR_TOLD_GAP,
    WEIR_TOLD_FENCE,
    WEIR_TOLD_FENCE_SUM,
    WEIR_TOLD_COUNTS,
    WEIR_TOLD_KEY,    // of a block that is looked at now
    WEIR_TOLD_GOOD,   // that block; size bytes of its value follow
    WEIR_TOLD_BAD,    // that block; text
    WEIR_TOLD_BROKEN, // something else; text
    WEIR_TOLD_END,    // all was told
} weir_told_kind;

typedef struct {
    weir_told_kind kind;
    weir_scan_phase phase;
    weir_disk_key key;
    weir_disk_head head;
    weir_disk_gap gap;
    weir_disk_counts counts; // of key.shard
    uint64_t fence_sum;
    uint8_t fence[2][WEIR_DISK_KEY_SIZE];
    uint64_t size;
    char text[200];
} weir_told;

/*  arg is a weir_scan; for weir_disk_child_start.                                  */
void weir_scan_run(void *arg, int fd);
