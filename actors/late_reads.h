/*  late_reads: answers that came when the poll that had asked for them was over. The next
    one that begins where one of them does takes it: so a client whose timeout is shorter
    than a read takes gets on all the same. Bounded in number, bytes and time; the oldest
    go first. A part of poll, used by its thread; time is the caller's.                */
#pragma once
#include "actors/store.h"

#define WEIR_LATE_READS_MAX 16
#define WEIR_LATE_READS_BYTES (8 << 20) // of all; one may be larger
#define WEIR_LATE_READS_US 10000000     // that one is kept

typedef struct {
    weir_read *read; // owned
    size_t bytes;
    int64_t until_us;
} weir_late_read;

/*  Zeroed it is ready for use.                                                     */
typedef struct {
    weir_late_read reads[WEIR_LATE_READS_MAX]; // the oldest first
    size_t count;
} weir_late_reads;

void weir_late_reads_fini(weir_late_reads *self);

/*  Takes the answer, and keeps it if it brings anybody on.                         */
void weir_late_reads_add(weir_late_reads *self, weir_read **read_p, int64_t now_us);

/*  An answer to the same question, which is the caller's to destroy; NULL: there is none.
 */
weir_read *weir_late_reads_take(weir_late_reads *self, uint32_t shard,
                                weir_position after, int64_t since_ms, int64_t now_us);
