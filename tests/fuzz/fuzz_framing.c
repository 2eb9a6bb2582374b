/*  framing: any chunking gives the same pieces, their extents cover the input in
    order, plain lines agree with a simple splitter, and resuming at the end of a
    piece gives the pieces behind it.                                          */
#include "runtime/buffer.h"
#include "runtime/framing.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds)
{
    if (!holds) abort();
}

static void put_number(weir_buffer *seen, uint64_t value)
{
    weir_buffer_put(seen, &value, sizeof value);
}

/*  Pulls what there is into a comparable form; *end is where the last piece ended,
    and *at how much of `seen` lies before the piece numbered `wanted`.        */
typedef struct {
    weir_buffer seen;
    uint64_t end;
    uint64_t resume;
    size_t pieces, wanted, at;
    bool bad;
} account;

static void pull(weir_framer *framer, account *into)
{
    weir_framed piece;
    while (weir_framer_next(framer, 0, &piece)) {
        require(!into->bad);
        require(piece.start >= into->end && piece.end >= piece.start);
        require(piece.size <= piece.whole_size);
        require(piece.kind != WEIR_PIECE_RECORD || piece.size == piece.whole_size);
        into->end = piece.end;
        into->bad = piece.kind == WEIR_PIECE_BAD;
        weir_buffer *seen = &into->seen;
        put_number(seen, piece.kind);
        put_number(seen, piece.start);
        put_number(seen, piece.end);
        put_number(seen, piece.whole_size);
        weir_buffer_put(seen, piece.data, piece.size);
        weir_buffer_put_text(seen, piece.error);
        if (into->pieces++ == into->wanted) {
            into->resume = piece.end;
            into->at = seen->size;
        }
    }
}

static void feed(weir_framer *framer, const uint8_t *data, size_t size, account *into)
{
    uint8_t *chunk = malloc(size + !size);
    memcpy(chunk, data, size);
    weir_framer_feed(framer, chunk, size);
    pull(framer, into);
    memset(chunk, 0xee, size);
    free(chunk);
}

/*  Chunks as long as the bytes of `cuts` say, in turn; without cuts, one chunk. */
static void frame(weir_framer *framer, const uint8_t *data, size_t size, uint64_t from,
                  const uint8_t *cuts, size_t count, account *into)
{
    weir_framer_reset(framer, from);
    for (size_t at = (size_t)from, i = 0; at < size; i++) {
        size_t step = count ? cuts[i % count] % 32 : size;
        if (step == 0 && i % 2) step = 1;
        if (step > size - at) step = size - at;
        feed(framer, data + at, step, into);
        at += step;
    }
    weir_framer_end(framer);
    pull(framer, into);
    require(weir_framer_pending(framer) == 0);
    require(into->end <= size);
}

static void compare(const account *a, const account *b)
{
    require(a->seen.size == b->seen.size && a->end == b->end);
    require(!a->seen.size || !memcmp(a->seen.data, b->seen.data, a->seen.size));
}

/*  The oracle: lines by the definition, a byte at a time.                     */
static void split_lines(const uint8_t *data, size_t size, size_t record_max,
                        account *into)
{
    for (size_t start = 0, at = 0; at <= size; at++) {
        if (at < size && data[at] != '\n') continue;
        size_t length = at - start;
        if (at == size && length == 0) break;
        if (at < size && length && data[at - 1] == '\r') length--;
        size_t end = at < size ? at + 1 : at;
        put_number(&into->seen, length > record_max ? WEIR_PIECE_OVERSIZE : 0);
        put_number(&into->seen, start);
        put_number(&into->seen, end);
        put_number(&into->seen, length);
        weir_buffer_put(&into->seen, data + start, length);
        into->end = end;
        start = end;
    }
}

/*  An array of which only blanks are left at the resumed offset is taken as ended. */
static bool is_resumable(weir_framing framing, const uint8_t *data, size_t size)
{
    if (framing != WEIR_FRAMING_ARRAY) return true;
    while (size > 0 && memchr(" \t\r\n", data[size - 1], 4))
        size--;
    return size > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4) return 0;
    size_t count = data[1] % 8;
    if (size < 4 + count) return 0;
    const uint8_t *cuts = data + 4, *input = cuts + count;
    size_t length = size - 4 - count;
    bool joins = data[0] % 8 == 7;
    weir_framing_config config = {.framing = joins ? WEIR_FRAMING_LINES
                                                   : (weir_framing)(data[0] % 4),
                                  .begin = joins ? "^[0-9a]" : NULL,
                                  .max_bytes = 1 + data[3] % 64,
                                  .wait_us = 1,
                                  .record_max = 1 + data[2] % 64};
    weir_framer *framer;
    require(weir_framer_new(&framer, &config, NULL) == WEIR_OK);
    account whole = {.wanted = data[3] / 16}, parts = {0}, rest = {0}, split = {0};
    frame(framer, input, length, 0, NULL, 0, &whole);
    frame(framer, input, length, 0, cuts, count, &parts);
    compare(&whole, &parts);
    if (config.framing == WEIR_FRAMING_LINES && !joins) {
        split_lines(input, length, config.record_max, &split);
        compare(&whole, &split);
    }
    if (whole.resume > 0 && !joins &&
        is_resumable(config.framing, input + whole.resume, length - whole.resume)) {
        rest.end = whole.resume;
        frame(framer, input, length, whole.resume, cuts, count, &rest);
        require(rest.seen.size == whole.seen.size - whole.at);
        require(!rest.seen.size ||
                !memcmp(rest.seen.data, whole.seen.data + whole.at, rest.seen.size));
    }
    weir_buffer_fini(&whole.seen);
    weir_buffer_fini(&parts.seen);
    weir_buffer_fini(&rest.seen);
    weir_buffer_fini(&split.seen);
    weir_framer_destroy(&framer);
    return 0;
}
