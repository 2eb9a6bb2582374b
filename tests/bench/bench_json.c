/*  What a look at a JSON record costs: ns per record, best of several rounds.

    bench_json FILE.ndjson [NAME...]                                           */
#include "runtime/json.h"
#include <stdio.h>
#include <time.h>

typedef struct {
    const uint8_t *text;
    size_t size;
} line;

typedef struct {
    weir_buffer file;
    line *lines;
    size_t count;
    const char **names; // of the fields that find looks for
    size_t names_count;
} input;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool input_load(input *self, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    for (size_t got = 1; got > 0;) {
        got = fread(weir_buffer_reserve(&self->file, 65536), 1, 65536, file);
        self->file.size += got;
    }
    fclose(file);
    const uint8_t *at = self->file.data, *end = at + self->file.size;
    self->lines = calloc(self->file.size + 1, sizeof *self->lines);
    if (!self->lines) abort();
    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        self->lines[self->count++] = (line){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    return self->count > 0;
}

static size_t run_scan(const input *in, weir_json_index *index)
{
    size_t sum = 0;
    for (size_t i = 0; i < in->count; i++)
        sum += weir_json_scan(index, in->lines[i].text, in->lines[i].size) == WEIR_OK;
    return sum;
}

static size_t run_rescan(const input *in, weir_json_index *index)
{
    size_t sum = 0;
    for (size_t i = 0; i < in->count; i++) {
        weir_json_rescan(index, in->lines[i].text, in->lines[i].size);
        sum += index->count;
    }
    return sum;
}

static size_t run_find(const input *in, weir_json_index *index)
{
    size_t sum = 0;
    for (size_t i = 0; i < in->count; i++) {
        const line *l = &in->lines[i];
        sum += weir_json_scan(index, l->text, l->size) == WEIR_OK;
        for (size_t j = 0; j < in->names_count; j++) {
            const char *name = in->names[j];
            weir_value value;
            long at = weir_json_find(index, l->text, name, strlen(name));
            if (at < 0) continue;
            weir_json_value(&index->fields[at], l->text, &value);
            sum += value.size;
        }
    }
    return sum;
}

typedef size_t run(const input *in, weir_json_index *index);

static double best_ns(const input *in, run *work, weir_json_index *index)
{
    volatile size_t sink = 0;
    double best = 1e300;
    for (int round = 0; round < 15; round++) {
        uint64_t start = now_ns();
        sink += work(in, index);
        double ns = (double)(now_ns() - start) / (double)in->count;
        if (ns < best) best = ns;
    }
    return best;
}

int main(int argc, char **argv)
{
    static const char *usual[] = {"status", "bytes", "path", "ip"};
    input in = {0};
    if (argc < 2 || !input_load(&in, argv[1])) {
        fprintf(stderr, "usage: bench_json FILE.ndjson [NAME...]\n");
        return 1;
    }
    in.names = argc > 2 ? (const char **)argv + 2 : usual;
    in.names_count = argc > 2 ? (size_t)argc - 2 : sizeof usual / sizeof *usual;
    weir_json_index index = {0};
    size_t accepted = run_scan(&in, &index);
    double scan = best_ns(&in, run_scan, &index);
    double rescan = accepted == in.count ? best_ns(&in, run_rescan, &index) : 0;
    double find = best_ns(&in, run_find, &index);
    printf("records %zu, accepted %zu, bytes each %.1f\n", in.count, accepted,
           (double)in.file.size / (double)in.count);
    printf("scan    %7.1f ns\nrescan  %7.1f ns\n", scan, rescan);
    printf("find %zu  %7.1f ns, scan and values included\n", in.names_count, find);
    weir_json_index_fini(&index);
    weir_buffer_fini(&in.file);
    free(in.lines);
    return accepted == in.count ? 0 : 1;
}
