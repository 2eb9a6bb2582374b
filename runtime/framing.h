/*  framing: how bytes become records. A class without files and sockets.

    Feed a chunk, pull pieces until there are none, feed the next:

        weir_framer_feed (framer, data, size);
        while (weir_framer_next (framer, now_us, &piece)) ...;

    Pieces point into the fed chunk or into the framer's own carry buffer and
    live until the next call. A framer holds at most record_max + 64KB bytes,
    however long a line is; one that joins lines, max_bytes more. How the input is
    cut into chunks never changes the pieces.                                  */
#pragma once
#include "runtime/err.h"

typedef enum {
    WEIR_FRAMING_NDJSON = 0, // a line is a record; CR and spaces trimmed, blanks skipped
    WEIR_FRAMING_LINES,      // a line is a record, without its LF or CRLF
    WEIR_FRAMING_BLOB,       // all of the input is one record
    WEIR_FRAMING_ARRAY,      // an element of a JSON array is a record
} weir_framing;

typedef struct {
    weir_framing framing;
    const char *begin; // LINES: regex that begins a record; NULL: every line does
    size_t max_bytes;  // of a joined record
    int64_t wait_us;   // longest wait for a further line, or behind an array's error
    size_t record_max; // a larger record is a piece of kind OVERSIZE
} weir_framing_config;

typedef enum {
    WEIR_PIECE_RECORD = 0,
    WEIR_PIECE_OVERSIZE, // data is the record's first 64KB, whole_size its real size
    WEIR_PIECE_BAD,      // ARRAY: error says what is wrong; data is the rest (<= 64KB),
                         // with the element that is unfinished there. The last piece
} weir_piece_kind;

typedef struct {
    weir_piece_kind kind;
    const uint8_t *data;
    size_t size;
    uint64_t whole_size; // bytes of the record; equals size for RECORD
    uint64_t start;      // stream offset of the record's first byte
    uint64_t end;        // stream offset behind the record and its line end (ARRAY: and
                         // nothing else): once it is safe, reading may start here
    char error[160];     // BAD: "byte 17: expected a value"
} weir_framed;

/*  A record that is a line of the chunk and no more.                          */
typedef struct {
    const uint8_t *data;
    size_t size;
    uint64_t end; // as of a piece
} weir_line;

typedef struct weir_framer weir_framer;

/*  The config is copied. Errors: WEIR_EINVAL with a report when a value is out of
    range, or `begin` does not compile.                                        */
weir_err weir_framer_new(weir_framer **self_p, const weir_framing_config *config,
                         weir_report *report);
void weir_framer_destroy(weir_framer **self_p);

/*  Forgets everything; the next byte fed has this stream offset. An array is
    expected at offset 0; any other offset is taken as the end of an element.  */
void weir_framer_reset(weir_framer *self, uint64_t offset);

/*  Lends a chunk until weir_framer_next has returned false. now_us of next is
    monotonic and only read by multiline and array framing. No chunk may be fed
    behind weir_framer_end, unless weir_framer_reset comes between.            */
void weir_framer_feed(weir_framer *self, const uint8_t *data, size_t size);
bool weir_framer_next(weir_framer *self, int64_t now_us, weir_framed *piece);

/*  A faster way for what nearly all input is: takes the next record if it is a line that
    lies in the chunk as a whole. False, and nothing has changed: ask weir_framer_next. */
bool weir_framer_line(weir_framer *self, weir_line *line);

/*  No more bytes will come: what is left (a last line without newline, an open
    multiline record, the blob) comes out of weir_framer_next.                 */
void weir_framer_end(weir_framer *self);

/*  When weir_framer_next is to be called though nothing was fed, as an open
    multiline record (or an array's error) falls due; monotonic us, -1: never. */
int64_t weir_framer_deadline(const weir_framer *self);

/*  Bytes that the framer holds: fed, and not yet handed out. Blank lines and what
    is cut off from an oversize record are not held.                           */
size_t weir_framer_pending(const weir_framer *self);
