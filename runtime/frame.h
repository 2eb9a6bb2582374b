/*  frame: frame 0 of the link protocol, version 1, as bytes and as a struct.

    Every message is a MessagePack array: [type, fields ..., stage]. A BLOCK's
    body follows as frame 1.

        1 HELLO    version, node, outlet, session, options
        2 WELCOME  version, credit, safe, barrier
        3 BLOCK    sequence, records, [first, last vnode] | nil, map
        4 CREDIT   bytes, barrier
        5 ACK      sequence
        6 BARRIER  id, epoch, flags, last
        7 CLOSE    code, text, retryable
        8 NACK     sequence, code, text, retryable
        9 NEED     bytes
       10 TOKEN    sequence, kind, argument                                    */
#pragma once
#include "runtime/block.h"

typedef enum {
    WEIR_HELLO = 1,
    WEIR_WELCOME,
    WEIR_BLOCK,
    WEIR_CREDIT,
    WEIR_ACK,
    WEIR_BARRIER,
    WEIR_CLOSE,
    WEIR_NACK,
    WEIR_NEED,
    WEIR_TOKEN,
} weir_frame_type;

typedef enum { WEIR_TOKEN_FLUSH = 1, WEIR_TOKEN_MARKER } weir_token_kind;

#define WEIR_WIRE_VERSION 1

/*  Bytes of frame 0 at most; those of the runs in it are bounded by block.h.   */
#define WEIR_FRAME_MAX 65536

typedef struct {
    weir_frame_type type;
    uint32_t stage;
    uint64_t sequence; // BLOCK, ACK, NACK, TOKEN; WELCOME: last safe; BARRIER: last
                       // sequence before it
    uint64_t bytes;    // WELCOME, CREDIT: granted; NEED: wanted
    uint64_t barrier;  // WELCOME, CREDIT: last barrier seen; BARRIER: its id
    uint64_t session;  // HELLO
    uint64_t base;     // HELLO: the lowest sequence that the outlet still keeps
    uint64_t epoch;    // BARRIER
    uint64_t flags;    // BARRIER
    uint64_t argument; // TOKEN
    uint32_t version;  // HELLO, WELCOME
    uint32_t records;  // BLOCK
    weir_token_kind kind;
    bool retryable;       // CLOSE, NACK
    char node[64];        // HELLO
    char outlet[128];     // HELLO
    char code[32];        // CLOSE, NACK: a name such as OVERRUN
    char text[256];       // CLOSE, NACK
    const weir_run *runs; // BLOCK: lent; after a read they point into scratch
    size_t run_count;
} weir_frame;

/*  Appends the encoding. Texts longer than their field were cut by the caller. */
void weir_frame_put(const weir_frame *self, weir_buffer *out);

/*  Reads frame 0. scratch holds the runs of a BLOCK until it is used again (NULL: they
    are passed over); without runs in it there is one, of which nothing is said. Of a
   HELLO of another version only the version is read. Unknown options and map entries are
    skipped. Errors: WEIR_EMALFORMED and the reader's, WEIR_ETOOBIG above the limits;
    nothing is allocated for claims.  */
weir_err weir_frame_read(weir_frame *self, const uint8_t *data, size_t size,
                         weir_buffer *scratch);

/*  What a BLOCK costs of the link's credit: 544, 16 for each run and the bytes of its
    texts, and the body; places cost nothing. Both sides come to the same figure from what
    both know.   */
size_t weir_block_cost(const weir_block *block);
