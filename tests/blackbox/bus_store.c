/*  Writes a disk store, and the state of its bus beside it, as a bus would: bus_store
    FOLDER. What to do comes by lines of stdin, each answered by a line when it is done:

        record SHARD KEY JSON     added to the shard's open batch; KEY -: none
        text SHARD TEXT           raw bytes, the same way
        header SHARD NAME=TEXT    a record {} with that header
        write                     each open batch is stored
        group NAME SHARD OFFSET   the group has committed so far
        shards N                  the table has shards 0 to N - 1, the last one draining
 */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/bus_state.h"
#include "actors/store_disk.h"
#include "runtime/clock.h"

enum { SHARDS_MAX = 16 };

typedef struct {
    weir_store *store;
    weir_bus_state *state;
    weir_builder open[SHARDS_MAX];
    uint64_t next[SHARDS_MAX]; // sequence of the shard's next batch
    sem_t done;
} host;

static void fail(const weir_report *report)
{
    fprintf(stderr, "bus_store: %s: %s\n", report->where, report->text);
    exit(1);
}

static void tell_done(weir_batch *batch)
{
    sem_post(&((host *)batch->owner)->done);
}

static void write_batch(host *self, uint32_t shard)
{
    weir_piece piece = {.block = weir_builder_seal(&self->open[shard])};
    if (!piece.block) return;
    weir_batch *batch = weir_batch_new();
    batch->shard = shard;
    batch->epoch = weir_bus_state_epoch(self->state);
    batch->first = self->next[shard] + 1;
    batch->arrived_ms = weir_clock_wall_ms();
    batch->done = tell_done;
    batch->owner = self;
    weir_batch_add(batch, &piece);
    self->next[shard] += batch->records;
    self->store->class->write(self->store, batch);
    sem_wait(&self->done);
    if (batch->result != WEIR_STORE_SAFE) {
        fprintf(stderr, "bus_store: %s\n", batch->text);
        exit(1);
    }
    weir_batch_destroy(&batch);
}

static void put_header(weir_buffer *out, const char *name, const char *text)
{
    const size_t sizes[] = {strlen(name), strlen(text)};
    weir_buffer_put_byte(out, 0x81); // a map of one member
    weir_buffer_put_byte(out, (uint8_t)(0xa0 | sizes[0]));
    weir_buffer_put(out, name, sizes[0]);
    weir_buffer_put_byte(out, (uint8_t)(0xa0 | sizes[1]));
    weir_buffer_put(out, text, sizes[1]);
}

static void add_record(host *self, uint32_t shard, const char *key, weir_format format,
                       const char *text, const weir_buffer *headers)
{
    weir_record record = {.format = format,
                          .data = (const uint8_t *)text,
                          .size = strlen(text),
                          .key = {.type = WEIR_MISSING}};
    if (headers) {
        record.headers = headers->data;
        record.headers_size = headers->size;
    }
    if (key && strcmp(key, "-"))
        record.key = (weir_value){
            .type = WEIR_STR, .data = (const uint8_t *)key, .size = strlen(key)};
    weir_builder_add(&self->open[shard], &record, &(weir_run){.records = 0});
}

static void set_group(host *self, const char *name, uint32_t shard, uint64_t offset)
{
    weir_report report = {0};
    weir_group_row row = {.shard = shard, .commit = {.a = offset}};
    if (weir_bus_state_store_group(self->state, name, &row, 1, &report)) fail(&report);
}

static void set_shards(host *self, uint32_t count)
{
    weir_report report = {0};
    weir_shard_row rows[SHARDS_MAX];
    uint32_t owners[4] = {0};
    weir_shard_table table = {
        .version = 1, .vnodes = 4, .rows = rows, .row_count = count, .owners = owners};
    for (uint32_t i = 0; i < count; i++)
        rows[i] =
            (weir_shard_row){i, i + 1 == count ? WEIR_SHARD_DRAINING : WEIR_SHARD_ACTIVE};
    if (weir_bus_state_store(self->state, &table, &report)) fail(&report);
}

static void obey(host *self, char *line)
{
    char word[16] = "", name[64] = "";
    unsigned shard = 0;
    unsigned long long offset = 0;
    int at = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "record %u %63s %n", &shard, name, &at) == 2 && shard < SHARDS_MAX) {
        add_record(self, shard, name, WEIR_JSON, line + at, NULL);
    } else if (sscanf(line, "text %u %n", &shard, &at) == 1 && shard < SHARDS_MAX) {
        add_record(self, shard, NULL, WEIR_TEXT, line + at, NULL);
    } else if (sscanf(line, "header %u %63[^=]=%n", &shard, name, &at) == 2 &&
               shard < SHARDS_MAX) {
        weir_buffer headers = {0};
        put_header(&headers, name, line + at);
        add_record(self, shard, NULL, WEIR_JSON, "{}", &headers);
        weir_buffer_fini(&headers);
    } else if (sscanf(line, "group %63s %u %llu", name, &shard, &offset) == 3) {
        set_group(self, name, shard, offset);
    } else if (sscanf(line, "%15s %u", word, &shard) && !strcmp(word, "shards")) {
        set_shards(self, shard);
    } else if (!strcmp(word, "write")) {
        for (uint32_t i = 0; i < SHARDS_MAX; i++)
            write_batch(self, i);
    } else {
        fprintf(stderr, "bus_store: what is '%s'?\n", line);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static host self;
    static char line[1 << 16];
    weir_report report = {0};
    weir_disk_config config = weir_disk_defaults;
    config.path = argc == 2 ? argv[1] : "";
    config.name = "events";
    config.locked = true;
    sem_init(&self.done, 0, 0);
    for (int i = 0; i < SHARDS_MAX; i++)
        self.open[i].target = 1 << 20;
    if (weir_bus_state_open(&self.state, config.path, 4, &report) ||
        weir_disk_open(&self.store, &config, &report))
        fail(&report);
    while (fgets(line, sizeof line, stdin)) {
        obey(&self, line);
        printf("done\n");
        fflush(stdout);
    }
    for (int i = 0; i < SHARDS_MAX; i++)
        weir_builder_fini(&self.open[i]);
    self.store->class->close(&self.store);
    weir_bus_state_close(&self.state);
    return 0;
}
