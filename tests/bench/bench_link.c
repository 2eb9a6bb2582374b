/*  link: blocks of 64 KiB over tcp on the loopback, from one realm to another, and the
    same frames through libzmq's PUSH and PULL between two contexts.

        bench_link weir|raw plain|curve BLOCKS LINKS        prints MB/s and CPU us a block

    With more than one link, as many senders share the blocks.                 */
#include "actors/sink_null.h"
#include "runtime/realm.h"
#include "runtime/socket.h"
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum { body_bytes = 64 << 10, record_bytes = 200 };

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static double cpu_before, cpu_after; // while blocks were under way

static void must(bool good, const weir_report *report)
{
    if (good) return;
    fprintf(stderr, "%s: %s\n", report->where, report->text);
    exit(1);
}

static weir_block *make_block(void)
{
    char payload[record_bytes];
    memset(payload, 'x', sizeof payload);
    memcpy(payload, "{\"a\":\"", 6);
    memcpy(payload + sizeof payload - 2, "\"}", 2);
    weir_builder builder = {.target = body_bytes};
    weir_run origin = {.source = "bench"};
    while (!weir_builder_full(&builder))
        weir_builder_add_payload(&builder, WEIR_JSON, (uint8_t *)payload, sizeof payload,
                                 &origin);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

/* --- Keys -------------------------------------------------------------------------- */

static weir_cert new_cert(const char *name)
{
    weir_cert cert = {.roles = WEIR_ROLE_PRODUCE};
    snprintf(cert.name, sizeof cert.name, "%s", name);
    zmq_curve_keypair(cert.public_key, cert.secret_key);
    return cert;
}

static void write_keys(const char *folder, weir_cert own, weir_cert other)
{
    char path[4096];
    weir_report report = {0};
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%s/peers", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/self.key", folder);
    must(weir_cert_write(&own, path, &report) == WEIR_OK, &report);
    other.secret_key[0] = 0;
    snprintf(path, sizeof path, "%s/peers/%s.pub", folder, other.name);
    must(weir_cert_write(&other, path, &report) == WEIR_OK, &report);
}

typedef struct {
    weir_realm *server, *client;
    bool curve;
    char folder[32];
} realms;

static void open_realms(realms *r)
{
    weir_report report = {0};
    char server[64], client[64];
    if (!mkdtemp(r->folder)) abort();
    snprintf(server, sizeof server, "%s/server", r->folder);
    snprintf(client, sizeof client, "%s/client", r->folder);
    weir_cert a = new_cert("server"), b = new_cert("client");
    write_keys(server, a, b);
    write_keys(client, b, a);
    must(!weir_realm_new(&r->server, r->curve ? server : NULL, &report), &report);
    must(!weir_realm_new(&r->client, r->curve ? client : NULL, &report), &report);
}

static void close_realms(realms *r)
{
    char command[128];
    weir_realm_destroy(&r->server);
    weir_realm_destroy(&r->client);
    snprintf(command, sizeof command, "rm -rf %s", r->folder);
    if (system(command)) abort();
}

/* --- Weir -------------------------------------------------------------------------- */

typedef struct {
    weir_node node;
    weir_block *block;
    uint64_t blocks;
} pump_config;

typedef struct {
    weir_actor *kit;
    const pump_config *config;
    weir_lane lane;
    uint64_t sent;
    int port;
} pump;

static weir_err pump_init(void *arg, weir_actor *kit, const void *config,
                          weir_report *report)
{
    (void)report;
    pump *self = arg;
    self->kit = kit;
    self->config = config;
    self->port = weir_actor_port(kit, "pump");
    return WEIR_OK;
}

static void pump_fini(void *arg)
{
    pump *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
}

static bool pump_turn(void *arg)
{
    pump *self = arg;
    for (int i = 0; i < 16; i++) {
        if (self->sent == self->config->blocks) {
            weir_actor_end(self->kit);
            return false;
        }
        if (!weir_actor_has_room(self->kit)) return false;
        weir_block *block = weir_block_dup(self->config->block);
        uint32_t records = weir_block_records(block);
        weir_entry *entry =
            weir_actor_open(self->kit, &self->lane, records, ++self->sent, 0);
        entry->fates.done = records;
        weir_actor_send(self->kit, self->port, &block, entry);
        weir_actor_done(self->kit, entry);
    }
    return true;
}

static weir_err pump_commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)arg;
    (void)entry;
    (void)report;
    return WEIR_OK;
}

static const weir_option no_options[] = {{.name = NULL}};

static void pump_actor(zsock_t *pipe, void *config);
static const pump_config pump_defaults = {.blocks = 1};
static const weir_class pump_class = {
    .name = "pump",
    .help = "sends one block again and again",
    .actor = pump_actor,
    .size = sizeof(pump),
    .config_size = sizeof(pump_config),
    .defaults = &pump_defaults,
    .options = no_options,
    .source = true,
    .init = pump_init,
    .fini = pump_fini,
    .turn = pump_turn,
    .commit = pump_commit,
};

static void pump_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&pump_class, pipe, config);
}

static void ask(zactor_t *actor, const char *command, const char *a, const char *b,
                const char *c)
{
    zmsg_t *reply = NULL;
    if (weir_actor_ask(actor, &reply, command, a, b, c, NULL)) {
        char *text = reply ? zmsg_popstr(reply) : NULL;
        fprintf(stderr, "%s: %s\n", command, text ? text : "?");
        exit(1);
    }
    zmsg_destroy(&reply);
}

static double run_weir(realms *r, weir_block *block, uint64_t blocks, size_t links)
{
    weir_sink_null_config to = weir_sink_null_defaults;
    weir_vitals taken = WEIR_VITALS_INIT, *sent = calloc(links, sizeof *sent);
    pump_config *from = calloc(links, sizeof *from);
    zactor_t **sources = calloc(links, sizeof *sources);
    if (!sent || !from || !sources) abort();
    const char *security = r->curve ? NULL : "plaintext";
    to.node.vitals = &taken;
    to.node.realm = r->server;
    zactor_t *sink = zactor_new(weir_sink_null, &to);
    ask(sink, "LISTEN", "tcp://127.0.0.1:*", security, NULL);
    ask(sink, "START", NULL, NULL, NULL);
    int wake = eventfd(0, EFD_CLOEXEC);
    for (size_t i = 0; i < links; i++) {
        sent[i] = (weir_vitals)WEIR_VITALS_INIT;
        sent[i].wake_fd = wake;
        from[i] = (pump_config){.block = block, .blocks = blocks / links};
        from[i].node.realm = r->client;
        from[i].node.vitals = &sent[i];
        sources[i] = zactor_new(pump_actor, &from[i]);
        ask(sources[i], "CONNECT", "pump", taken.endpoint,
            r->curve ? "server" : "plaintext");
    }
    double start = now_s();
    cpu_before = cpu_s();
    for (size_t i = 0; i < links; i++)
        ask(sources[i], "START", NULL, NULL, NULL);
    for (size_t i = 0; i < links; i++)
        while (sent[i].state != WEIR_STATE_ENDED)
            eventfd_read(wake, &(eventfd_t){0});
    double seconds = now_s() - start;
    cpu_after = cpu_s();
    for (size_t i = 0; i < links; i++)
        zactor_destroy(&sources[i]);
    zactor_destroy(&sink);
    close(wake);
    free(sent);
    free(from);
    free(sources);
    return seconds;
}

/* --- libzmq ------------------------------------------------------------------------ */

typedef struct {
    weir_endpoint endpoint;
    weir_block *block;
    uint64_t blocks;
} raw_sender;

static void keep_body(void *data, void *hint)
{
    (void)data;
    (void)hint;
}

static void *send_raw(void *arg)
{
    raw_sender *s = arg;
    char head[64] = {0};
    weir_report report = {0};
    void *push = weir_socket_raw(ZMQ_PUSH, &s->endpoint, false, 512, true, &report);
    must(push, &report);
    for (uint64_t i = 0; i < s->blocks; i++) {
        zmq_msg_t body;
        zmq_msg_init_data(&body, (void *)weir_block_body(s->block),
                          weir_block_size(s->block), keep_body, NULL);
        zmq_send(push, head, sizeof head, ZMQ_SNDMORE);
        zmq_msg_send(&body, push, 0);
    }
    int linger = -1;
    zmq_setsockopt(push, ZMQ_LINGER, &linger, sizeof linger);
    zmq_close(push);
    return NULL;
}

static double run_raw(realms *r, weir_block *block, uint64_t blocks, size_t links)
{
    char endpoint[128];
    size_t size = sizeof endpoint;
    weir_report report = {0};
    weir_endpoint listen = {.endpoint = "tcp://127.0.0.1:*",
                            .realm = r->server,
                            .plaintext = !r->curve,
                            .role = WEIR_ROLE_PRODUCE};
    void *pull = weir_socket_raw(ZMQ_PULL, &listen, true, 512, true, &report);
    must(pull, &report);
    zmq_getsockopt(pull, ZMQ_LAST_ENDPOINT, endpoint, &size);
    pthread_t *threads = calloc(links, sizeof *threads);
    if (!threads) abort();
    raw_sender sender = {.endpoint = {.endpoint = endpoint,
                                      .realm = r->client,
                                      .plaintext = !r->curve,
                                      .server = r->curve ? "server" : NULL},
                         .block = block,
                         .blocks = blocks / links};
    double start = now_s();
    cpu_before = cpu_s();
    for (size_t i = 0; i < links; i++)
        pthread_create(&threads[i], NULL, send_raw, &sender);
    for (uint64_t i = 0; i < blocks / links * links * 2; i++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        zmq_msg_recv(&part, pull, 0);
        zmq_msg_close(&part);
    }
    double seconds = now_s() - start;
    cpu_after = cpu_s();
    for (size_t i = 0; i < links; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    zmq_close(pull);
    return seconds;
}

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    realms r = {.curve = streq(argv[2], "curve"), .folder = "/tmp/weir-bench-XXXXXX"};
    uint64_t blocks = strtoull(argv[3], NULL, 10);
    size_t links = strtoull(argv[4], NULL, 10);
    weir_block *block = make_block();
    weir_socket_prepare_program(); // 1,000 actors are more than CZMQ's 1,024 sockets
    open_realms(&r);
    double seconds = streq(argv[1], "raw") ? run_raw(&r, block, blocks, links)
                                           : run_weir(&r, block, blocks, links);
    blocks = blocks / links * links;
    printf("%.1f %.3f\n", (double)blocks * (double)weir_block_size(block) / seconds / 1e6,
           (cpu_after - cpu_before) * 1e6 / (double)blocks);
    weir_block_destroy(&block);
    close_realms(&r);
    return 0;
}
