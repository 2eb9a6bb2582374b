/*  framing: lines of about 300 bytes out of a 256KB chunk that is in cache, against
    a bare memchr over the same bytes.                                         */
#include "runtime/framing.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { chunk_size = 256 * 1024, rounds = 20000 };

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double run_memchr(const uint8_t *chunk, size_t *lines)
{
    double start = now_s();
    for (int round = 0; round < rounds; round++) {
        const uint8_t *at = chunk, *end = chunk + chunk_size, *newline;
        while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
            at = newline + 1;
            ++*lines;
        }
    }
    return (double)chunk_size * rounds / (now_s() - start) / 1e9;
}

static double run_framer(weir_framing framing, const uint8_t *chunk, size_t *records)
{
    weir_framing_config config = {.framing = framing, .record_max = 8 << 20};
    weir_framer *framer;
    if (weir_framer_new(&framer, &config, NULL)) abort();
    double start = now_s();
    for (int round = 0; round < rounds; round++) {
        weir_framed piece;
        weir_framer_feed(framer, chunk, chunk_size);
        while (weir_framer_next(framer, 0, &piece))
            ++*records;
    }
    double rate = (double)chunk_size * rounds / (now_s() - start) / 1e9;
    weir_framer_destroy(&framer);
    return rate;
}

int main(void)
{
    uint8_t *chunk = malloc(chunk_size);
    if (!chunk) return 1;
    memset(chunk, 'x', chunk_size);
    unsigned seed = 1;
    for (size_t at = 0; at < chunk_size; seed = seed * 1103515245 + 12345) {
        at += 250 + (seed >> 16) % 100;
        if (at < chunk_size) chunk[at] = '\n';
    }
    size_t lines = 0, records = 0, documents = 0;
    double limit = run_memchr(chunk, &lines);
    double as_lines = run_framer(WEIR_FRAMING_LINES, chunk, &records);
    double as_ndjson = run_framer(WEIR_FRAMING_NDJSON, chunk, &documents);
    printf("framing: memchr %.1f GB/s, lines %.1f GB/s (%.2f), ndjson %.1f GB/s (%.2f)\n",
           limit, as_lines, as_lines / limit, as_ndjson, as_ndjson / limit);
    free(chunk);
    return lines && records && documents ? 0 : 1;
}
