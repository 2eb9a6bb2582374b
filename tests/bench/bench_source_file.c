/*  source.file: an NDJSON file that is in the page cache through source.file into
    sink.null, against counting the newlines of the same file with read (2).   */
#include "actors/sink_null.h"
#include "actors/source_file.h"
#include "runtime/socket.h"
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

enum { chunk_size = 256 * 1024, file_bytes = 512 << 20 };

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static size_t write_file(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) abort();
    size_t lines = 0, size = 0;
    for (unsigned seed = 1; size < file_bytes; lines++) {
        seed = seed * 1103515245 + 12345;
        int pad = (int)(100 + (seed >> 16) % 100);
        size +=
            (size_t)fprintf(file,
                            "{\"id\":%zu,\"status\":%u,\"path\":\"/%0*d\",\"ip\":"
                            "\"10.0.0.%u\"}\n",
                            lines, 200 + (seed >> 20) % 300, pad, 7, (seed >> 8) % 256);
    }
    fclose(file);
    return lines;
}

static size_t count_lines(const char *path, uint8_t *chunk)
{
    int fd = open(path, O_RDONLY);
    size_t lines = 0;
    for (ssize_t n; (n = read(fd, chunk, chunk_size)) > 0;) {
        const uint8_t *at = chunk, *end = chunk + n;
        while ((at = memchr(at, '\n', (size_t)(end - at))) && ++lines && ++at < end)
            ;
    }
    close(fd);
    return lines;
}

static double run(const char *folder, const char *path)
{
    weir_vitals vitals = WEIR_VITALS_INIT;
    weir_ledger *ledger = weir_ledger_new(1 << 30);
    weir_sink_null_config sink_config = weir_sink_null_defaults;
    weir_source_file_config config = weir_source_file_defaults;
    sink_config.node.ledger = ledger;
    config.node = (weir_node){
        .name = "in", .ledger = ledger, .vitals = &vitals, .state_dir = folder};
    config.at_end = WEIR_FILE_STOP;
    weir_texts_add(&config.path, path);
    zactor_t *sink = zactor_new(weir_sink_null, &sink_config);
    weir_actor_ask(sink, NULL, "LISTEN", "inproc://bench", NULL);
    weir_actor_ask(sink, NULL, "START", NULL);
    zactor_t *source = zactor_new(weir_source_file, &config);
    weir_actor_ask(source, NULL, "CONNECT", "in", "inproc://bench", NULL);
    double start = now_s();
    weir_actor_ask(source, NULL, "START", NULL);
    while (vitals.state == WEIR_STATE_RUNNING)
        zclock_sleep(1);
    double seconds = now_s() - start;
    if (vitals.state != WEIR_STATE_ENDED) printf("%s\n", vitals.reason.text);
    zactor_destroy(&source);
    zactor_destroy(&sink);
    weir_ledger_destroy(&ledger);
    free(config.path.items[0]);
    free(config.path.items);
    return seconds;
}

int main(void)
{
    char folder[] = "/tmp/bench_source_file.XXXXXX", path[64], state[64];
    uint8_t *chunk = malloc(chunk_size);
    if (!chunk || !mkdtemp(folder)) return 1;
    weir_socket_prepare();
    snprintf(path, sizeof path, "%s/in.ndjson", folder);
    snprintf(state, sizeof state, "%s/in.positions", folder);
    size_t lines = write_file(path);
    for (int round = 0; round < 3; round++) {
        double start = now_s();
        if (count_lines(path, chunk) != lines) return 1;
        double limit = file_bytes / (now_s() - start) / 1e9;
        double rate = file_bytes / run(folder, path) / 1e9;
        printf("count lines %.2f GB/s, source.file to sink.null %.2f GB/s, ratio %.2f\n",
               limit, rate, rate / limit);
        remove(state);
    }
    remove(path);
    remove(folder);
    free(chunk);
}
