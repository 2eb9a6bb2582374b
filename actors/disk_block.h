/*  disk_block: key and value of the disk store's blocks. Pure; bytes may come from
    anywhere. Big-endian:

        key   | shard u32 | last offset u64 |

        value  0 "WBK1"                  16 epoch u64             40 body length u64
               4 count u32               24 first sequence u64    48 XXH3-64 of bytes
               8 first offset u64        32 arrival ms u64           0..47 and the body
                                                                  56 body

    Keys so sorted are sorted by shard and offset: what covers an offset is the first key
    not below it. What is not there any more is a gap, under the same kind of key:

        gap   | first offset u64 | kind u8: 0 trimmed, 1 damaged |

    What a shard has in all is counted beside them:

        key   | "shard" | shard u32 |

        value  0 last offset u64        16 damaged records u64   32 XXH3-64 of bytes
    0..31, 8 trimmed records u64    24 bytes of records u64     seeded with the key's  */
#pragma once
#include "runtime/err.h"

#define WEIR_DISK_KEY_SIZE 12
#define WEIR_DISK_HEAD_SIZE 56

typedef struct {
    uint32_t shard;
    uint64_t last; // offset of the block's last record
} weir_disk_key;

typedef struct {
    uint32_t count;      // records, at least 1
    uint64_t first;      // offset of the first one, at least 1
    uint64_t epoch;      // at least 1, as sequence
    uint64_t sequence;   // of the first one
    int64_t arrived_ms;  // wall clock, at least 0
    uint64_t body_bytes; // of the records
} weir_disk_head;

void weir_disk_key_pack(const weir_disk_key *self, uint8_t key[WEIR_DISK_KEY_SIZE]);
/*  False: it has another size.                                                     */
bool weir_disk_key_read(weir_disk_key *self, const void *key, size_t size);

typedef struct {
    uint64_t first; // offset; the last one is in the key
    bool damaged;   // else trimmed
} weir_disk_gap;

#define WEIR_DISK_GAP_SIZE 9

void weir_disk_gap_pack(const weir_disk_gap *self, uint8_t value[WEIR_DISK_GAP_SIZE]);
/*  False: it is none, or does not fit its key.                                     */
bool weir_disk_gap_read(weir_disk_gap *self, weir_disk_key key, const void *value,
                        size_t size);

/*  What a shard has; records: last - trimmed - damaged.                            */
typedef struct {
    uint64_t last;             // offset of its last record, there or not
    uint64_t trimmed, damaged; // records of its gaps
    uint64_t bytes;            // of the records that are there
} weir_disk_counts;

#define WEIR_DISK_COUNTS_KEY_SIZE 9
#define WEIR_DISK_COUNTS_SIZE 40

void weir_disk_counts_pack(const weir_disk_counts *self, uint32_t shard,
                           uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE],
                           uint8_t value[WEIR_DISK_COUNTS_SIZE]);
bool weir_disk_counts_is_key(const void *key, size_t size);
/*  Of a key that is one. False: the value is another one's, or damaged.            */
bool weir_disk_counts_read(weir_disk_counts *self, uint32_t *shard, const void *key,
                           const void *value, size_t size);

/*  Fences have no checksum of their own: the sum of this over all of them is kept.  */
uint64_t weir_disk_fence_sum(const uint8_t key[WEIR_DISK_KEY_SIZE],
                             const uint8_t value[WEIR_DISK_KEY_SIZE]);
#define WEIR_DISK_FENCES_SIZE 16
void weir_disk_fences_pack(uint64_t sum, uint8_t value[WEIR_DISK_FENCES_SIZE]);
bool weir_disk_fences_read(uint64_t *sum, const void *value, size_t size);

/* --- Writing ----------------------------------------------------------------------- */

/*  Checksum of one block after the other while it is copied.                       */
typedef struct weir_disk_sum weir_disk_sum;
weir_disk_sum *weir_disk_sum_new(void);
void weir_disk_sum_destroy(weir_disk_sum **self_p);

/*  Writes all of the header but the checksum; then come the body's pieces in order, of
    head->body_bytes in all; then the checksum is written into the header.          */
void weir_disk_head_begin(const weir_disk_head *head, weir_disk_sum *sum,
                          uint8_t value[WEIR_DISK_HEAD_SIZE]);
void weir_disk_head_body(weir_disk_sum *sum, const void *piece, size_t size);
void weir_disk_head_end(weir_disk_sum *sum, uint8_t value[WEIR_DISK_HEAD_SIZE]);

/* --- Reading ----------------------------------------------------------------------- */

/*  Reads the header of a value under that key and checks everything but the checksum;
    looks at no byte of the body. WEIR_EMALFORMED with a sentence in the report (may be
    NULL) that says what is wrong; where is left empty.                             */
weir_err weir_disk_head_read(weir_disk_head *self, weir_disk_key key, const void *value,
                             size_t size, weir_report *report);

/*  The same, with the checksum: reads all bytes. The records themselves are for
    weir_block_check.                                                               */
weir_err weir_disk_block_check(weir_disk_head *self, weir_disk_key key, const void *value,
                               size_t size, weir_report *report);
