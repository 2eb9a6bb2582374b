/*  group_window: what a consumer group knows of one shard: its records between the commit
    and what was read, in order, and what has become of each of them.

        start .. commit | done run, held, waiting, done run, held, waiting .. | reached

    A record is waiting until it is delivered, held until it is answered, done when that
    was an ack. One that has failed waits until due, alone; until it is done its vnode
    delivers nothing that is behind it. Done ones that touch are one entry, so memory is
    bounded by what is not done. A class without threads or stores; time is the caller's.
 */
#pragma once
#include "actors/bus_state.h"

#define WEIR_KEYLESS UINT32_MAX // the vnode of a record that holds up nobody

/*  The block that records lie in, or a copy of one record; freed with the last that uses
    it, which may be who reads in another thread. The ledger counts it until then.  */
typedef struct weir_group_bytes {
    atomic_uint references;
    uint32_t users; // records in the window among them
    size_t size;
    weir_ledger *ledger; // a reference; NULL: none
    weir_block *block;   // NULL: the record lies in copy
    uint8_t copy[];
} weir_group_bytes;

/*  Takes the block; the caller has the first reference. The ledger may be NULL.    */
weir_group_bytes *weir_group_bytes_new(weir_block **block, weir_ledger *ledger);
void weir_group_bytes_destroy(weir_group_bytes **self_p); // a reference less

typedef enum {
    WEIR_RECORD_WAITING = 0, // to be delivered, from due_us on
    WEIR_RECORD_HELD,        // delivered; due_us: when it counts as failed, -1: never
    WEIR_RECORD_DYING,       // a dead letter, once that is durable
    WEIR_RECORD_DONE,        // acknowledged, left out, dead or removed unread
} weir_record_state;

typedef struct {
    weir_position at;  // of DONE: of the last in the run
    uint64_t sequence; // with epoch and shard its id
    uint64_t epoch;
    int64_t arrived_ms;      // of its batch
    weir_group_bytes *bytes; // a reference; NULL when DONE
    const uint8_t *data;     // the encoded record, in bytes
    uint32_t size;
    uint32_t vnode;
    uint32_t failures; // deliveries of it that have failed
    weir_record_state state;
    bool out;  // the member had it and has not answered: its answer still counts
    bool late; // its delivery has failed by time, so a nack of it does not count
    int64_t due_us;
    uint64_t serial; // of its last delivery; of DONE: the highest
    uint64_t shed;   // of DONE: how many of the run were removed unread
} weir_group_record;

typedef struct weir_group_window weir_group_window;

/*  Begins at a row: its failures are those of the records that are read then.      */
weir_group_window *weir_group_window_new(const weir_group_row *row, uint32_t vnodes);
void weir_group_window_destroy(weir_group_window **self_p);

/* --- Reading ----------------------------------------------------------------------- */

/*  Adds what was read behind `reached`, waiting: at, sequence, epoch, arrived_ms, bytes
    (a reference is taken), data, size, vnode. Gives the entry, lent until the next call.
    `reached` may then lie behind it.                                               */
weir_group_record *weir_group_window_add(weir_group_window *self,
                                         const weir_group_record *record);
/*  All up to there is done without having been delivered; the last `removed` offsets of
    it are not there any more, and of these are shed those that were not done before.  */
void weir_group_window_pass(weir_group_window *self, weir_position at, uint64_t removed);

/*  Nobody has any of it: what is not done is read again, from the commit on; `reached`
    passes over what is. What has failed has failed so often.                       */
void weir_group_window_forget(weir_group_window *self);

/* --- Delivering -------------------------------------------------------------------- */

typedef struct {
    uint32_t max_records; // not 0
    size_t max_bytes;     // one record always fits
    int64_t now_us;
    int64_t due_us; // when what is delivered counts as failed; -1: never
    /*  Whether it goes with those that were given before it. NULL: it does.        */
    bool (*joins)(void *arg, const weir_group_record *record);
    void (*give)(void *arg, const weir_group_record *record);
    void *arg;
} weir_group_delivery;

/*  Gives waiting records that are due, in order, of one epoch; one that has failed is
    given alone. How many they are; 0: none now, and *next_us is when one is, -1: unknown.
 */
uint32_t weir_group_window_deliver(weir_group_window *self,
                                   const weir_group_delivery *delivery, int64_t *next_us);

/* --- Answers ----------------------------------------------------------------------- */

/*  Done is the record, or with up_to all that was delivered before it or with it and lies
    up to it. False: the member does not have it, and nothing has changed.          */
bool weir_group_window_ack(weir_group_window *self, weir_position at, bool up_to);

/*  The record, when the member has it; lent until the next add or pass.            */
weir_group_record *weir_group_window_find(weir_group_window *self, weir_position at);

/*  Its delivery has failed: its count rises and it waits until due_us, and behind it the
    later ones of its vnode that are held.                                          */
void weir_group_window_fail(weir_group_window *self, weir_group_record *record,
                            int64_t due_us);
/*  A waiting record will not be delivered again, and is done when it is buried.    */
void weir_group_window_doom(weir_group_record *record);
void weir_group_window_bury(weir_group_window *self, weir_position at);

/*  The first held record from *walk (0 at first) on whose time has come; NULL: none.  */
weir_group_record *weir_group_window_late(weir_group_window *self, int64_t now_us,
                                          size_t *walk);
/*  No held record counts as failed before then; -1: never.                         */
int64_t weir_group_window_next_late(const weir_group_window *self);

/*  The member is gone: what it has waits for the next one. No count rises.         */
void weir_group_window_release(weir_group_window *self);

/* --- Looking ----------------------------------------------------------------------- */

typedef struct {
    weir_position start, commit, reached;
    uint64_t shed;   // removed unread, up to the commit
    size_t unacked;  // read and not done
    size_t held;     // of them: delivered, and neither failed nor recalled
    size_t failing;  // of them: have failed
    size_t bytes;    // that keep them
    uint64_t ruling; // rises when failures change
} weir_group_window_state;

const weir_group_window_state *weir_group_window_look(const weir_group_window *self);

/*  What is to be stored; the caller frees failed.                                  */
void weir_group_window_row(const weir_group_window *self, weir_group_row *row);
