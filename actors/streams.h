/*  streams: the paths that a source.file reads, in turns, a chunk each; what they have
    read and is not safe yet; and the framers that cut it into records. For that actor's
    thread; it reads the fields, and changes a stream's own.                        */
#pragma once
#include "actors/paths.h"
#include "actors/tail.h"
#include "runtime/intake.h"

/*  The entries of one slot that are not safe yet. It outlives its stream, and goes to
    the next one that reads the slot, so that commits of a slot stay in order.      */
typedef struct weir_generation {
    weir_lane lane; // its owner is this
    int slot;
    uint64_t committed; // what is safe, or where reading began
    struct weir_generation *next;
} weir_generation;

/*  A path that is read.                                                            */
typedef struct weir_stream {
    char *path;           // owned
    weir_tail *tail;      // NULL: the stream is over
    weir_generation *now; // of the file that is read, owned; NULL: none yet
    weir_framer *framer;  // NULL: nothing is held
    uint64_t offset;      // behind the last byte read
    uint64_t end;         // of the file, as last seen
    int64_t gone_at_us;   // since when the path has no file; -1: it has one
    bool queued;
    bool ending;              // the framer has been ended, and is being emptied
    bool leaving;             // then the stream is over
    bool missing;             // the last scan did not find the path
    bool complained;          // a failure to open was logged
    struct weir_stream *next; // in the queue
} weir_stream;

#define WEIR_STREAMS_SPARES 16

/*  Zeroed at first, but for what is lent and linger_us.                            */
typedef struct {
    weir_intake *intake;       // lent: framers are made by it
    weir_positions *positions; // lent; needed by weir_streams_add
    weir_vitals *vitals;       // lent: size_hint follows what is read and unread
    int64_t linger_us;         // as of a tail

    weir_stream **list; // sorted by path
    size_t count, capacity;
    size_t open;               // those that are not over
    weir_stream *first, *last; // queue of those that may have something
    size_t visit_bytes;        // read from the first one since it came to be that
    weir_generation *left;     // of files that are no longer read
    weir_framer *spares[WEIR_STREAMS_SPARES];
    int spare_count;
} weir_streams;

/*  Makes a framer, which may fail: the intake's options are wrong together.        */
weir_err weir_streams_begin(weir_streams *self, weir_report *report);

weir_stream *weir_streams_find(const weir_streams *self, const char *path); // NULL: none

/*  Adds what a scan has found and is not read yet, and puts it into the queue.     */
void weir_streams_add(weir_streams *self, const weir_paths *paths, bool from_end);

/*  Frees those that are over, and generations of which all is safe.                */
void weir_streams_sweep(weir_streams *self);
void weir_streams_forget_settled(weir_streams *self);

/*  Frees everything. The lanes of what is not safe are of this kit.                */
void weir_streams_fini(weir_streams *self, weir_actor *kit);

/* --- The queue --------------------------------------------------------------------- */

void weir_streams_enqueue(weir_streams *self, weir_stream *stream);
void weir_streams_dequeue(weir_streams *self); // the first
void weir_streams_requeue(weir_streams *self); // the first becomes the last

/* --- A stream's file --------------------------------------------------------------- */

/*  The file is known to be read to offset, and to reach to end; read bytes came.   */
void weir_streams_note_extent(weir_streams *self, weir_stream *stream, uint64_t offset,
                              uint64_t end, uint64_t read);
uint64_t weir_stream_unread(const weir_stream *self);

/*  The tail has a file open that was not read before.                              */
void weir_streams_begin_file(weir_streams *self, weir_stream *stream);

/*  The framer of the queue's first stream is empty, and its file is left.          */
void weir_streams_finish_file(weir_streams *self);

/* --- A stream's framer ------------------------------------------------------------- */

/*  Gives it one that begins at the offset, unless it has one.                      */
weir_err weir_streams_need_framer(weir_streams *self, weir_stream *stream,
                                  uint64_t offset, weir_report *report);
void weir_streams_spare_framer(weir_streams *self, weir_stream *stream);

/*  What it still holds comes out; then the file is left.                           */
void weir_stream_end_framer(weir_stream *self);
