/*  tail: follows one path through growth, truncation and rotation. A class without
    threads, clocks and sockets: the caller has the timers, watches the folder, and
    asks.

        weir_tail_check (tail, now_us);      when the folder has changed, or in turn
        do {
            got = weir_tail_read (tail, now_us, buffer, size, &bytes);
            ...
        } while (got is not END, GONE, TAKEN or ERROR);

    What is read belongs to a file, which is known by its identity and has a slot in
    the positions. weir_tail_slot and weir_tail_offset say where the next byte comes
    from; once records are safe, the caller commits (slot, end of the record) there,
    also when the tail has long gone on to another file. A commit for a file whose
    content is gone is WEIR_ENOTFOUND, and can be passed over.

    A file that another file has replaced at the path is read to its end before the
    new one is begun, and `linger_us` longer, for writers that are late to notice. A
    file that the process has read under another name (access.log, now access.log.1,
    with a pattern that matches both) is known again and goes on where it was left;
    while another tail still reads it, reading is TAKEN.                       */
#pragma once
#include "runtime/positions.h"

typedef struct {
    const char *path;
    bool from_end;     // begin a file that is there at first, and unknown, at its end:
                       // behind the last newline of its last 64KB
    int64_t linger_us; // a replaced file is read at least so much longer
} weir_tail_config;

typedef enum {
    WEIR_TAIL_DATA = 0,  // read: there are bytes. check: something to read, perhaps
    WEIR_TAIL_END,       // nothing more now
    WEIR_TAIL_OPENED,    // a file is open, and none was: reset the framer to the offset
    WEIR_TAIL_ROTATED,   // a new file is open: end the framer, then reset it
    WEIR_TAIL_TRUNCATED, // the content is gone, reading begins at 0: reset the framer to
                         // the offset. What was unread is lost, so count it and log it
    WEIR_TAIL_GONE,      // the path has no file; an open one is read on
    WEIR_TAIL_TAKEN,     // another tail reads this file: ask again when that one has
                         // rotated
    WEIR_TAIL_ERROR,     // weir_tail_error says what is wrong; asking again tries again
} weir_tail_state;

typedef struct weir_tail weir_tail;

/*  The config is copied; the positions must outlive the tail. Touches no file.  */
weir_tail *weir_tail_new(const weir_tail_config *config, weir_positions *positions);

/*  Closes the file. What was read but not committed will be read again.       */
void weir_tail_destroy(weir_tail **self_p);

/*  Reads the next bytes of at most size into buffer, or says why there are none.
    Blocks on disk. Each OPENED, ROTATED and TRUNCATED comes once and in its place
    between the bytes.                                                         */
weir_tail_state weir_tail_read(weir_tail *self, int64_t now_us, uint8_t *buffer,
                               size_t size, size_t *bytes);

/*  Looks at the path. DATA: weir_tail_read may have something. END: all is as it
    was. GONE, ERROR: as above; they do not keep an open file from being read. */
weir_tail_state weir_tail_check(weir_tail *self, int64_t now_us);

/*  When a replaced file, read to its end, may be left (monotonic us): call
    weir_tail_read then. -1: nothing to wait for.                              */
int64_t weir_tail_deadline(const weir_tail *self);

/*  Slot and offset of the next byte that will be read. Slot -1: no file is open.  */
int weir_tail_slot(const weir_tail *self);
uint64_t weir_tail_offset(const weir_tail *self);

/*  Bytes of the open file that are not read yet; blocks on disk.              */
uint64_t weir_tail_lag(const weir_tail *self);

/*  True when the open file has no name any more: deleted, so that nobody can open it
    again.                                                                     */
bool weir_tail_deleted(const weir_tail *self);

const char *weir_tail_path(const weir_tail *self);

/*  Why the last call was ERROR: one sentence, lent until the next call.       */
const char *weir_tail_error(const weir_tail *self);
