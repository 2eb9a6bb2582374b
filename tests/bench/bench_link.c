/*  link: blocks of 64 KiB over tcp on the loopback from one process to another, and the
    same frames through libzmq's PUSH and PULL.

        bench_link weir|raw plain|curve BLOCKS LINKS

    prints MB/s, and the CPU time in us that a block costs both processes and the
    receiver. With more than one link, as many senders share the blocks.       */
#include "actors/sink_null.h"
#include "runtime/log.h"
#include "runtime/realm.h"
#include "runtime/socket.h"
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { body_bytes = 64 << 10, record_bytes = 200 };

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double cpu_s(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

/*  What both processes know.                                                  */
typedef struct {
    bool raw, curve;
    uint64_t blocks;
    size_t links;
    char folder[32];    // of the keys
    int told[2], go[2]; // pipes: the endpoint to the sender; its readiness back
    weir_realm *realm;  // each has its own
} job;

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

static void make_keys(job *j)
{
    char server[64], client[64];
    snprintf(j->folder, sizeof j->folder, "/tmp/weir-bench-XXXXXX");
    if (!mkdtemp(j->folder)) abort();
    snprintf(server, sizeof server, "%s/server", j->folder);
    snprintf(client, sizeof client, "%s/client", j->folder);
    weir_cert a = new_cert("server"), b = new_cert("client");
    write_keys(server, a, b);
    write_keys(client, b, a);
}

static void open_realm(job *j, const char *name)
{
    char folder[64];
    weir_report report = {0};
    snprintf(folder, sizeof folder, "%s/%s", j->folder, name);
    must(!weir_realm_new(&j->realm, j->curve ? folder : NULL, &report), &report);
}

static void remove_keys(const job *j)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", j->folder);
    if (system(command)) abort();
}

static void tell(int fd, const void *data, size_t size)
{
    if (write(fd, data, size) != (ssize_t)size) abort();
}

static void hear(int fd, void *data, size_t size)
{
    if (read(fd, data, size) != (ssize_t)size) abort();
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

/*  Sends everything, and returns when all of it is safe.                      */
static void send_weir(job *j, const char *endpoint)
{
    weir_vitals *sent = calloc(j->links, sizeof *sent);
    pump_config *from = calloc(j->links, sizeof *from);
    zactor_t **sources = calloc(j->links, sizeof *sources);
    weir_block *block = make_block();
    int wake = eventfd(0, EFD_CLOEXEC);
    if (!sent || !from || !sources) abort();
    for (size_t i = 0; i < j->links; i++) {
        sent[i] = (weir_vitals)WEIR_VITALS_INIT;
        sent[i].wake_fd = wake;
        from[i] = (pump_config){.block = block, .blocks = j->blocks / j->links};
        from[i].node.realm = j->realm;
        from[i].node.vitals = &sent[i];
        sources[i] = zactor_new(pump_actor, &from[i]);
        ask(sources[i], "CONNECT", "pump", endpoint, j->curve ? "server" : "plaintext");
    }
    tell(j->go[1], "", 1);
    for (size_t i = 0; i < j->links; i++)
        ask(sources[i], "START", NULL, NULL, NULL);
    for (size_t i = 0; i < j->links; i++)
        while (sent[i].state != WEIR_STATE_ENDED)
            eventfd_read(wake, &(eventfd_t){0});
    for (size_t i = 0; i < j->links; i++)
        zactor_destroy(&sources[i]);
    weir_block_destroy(&block);
    close(wake);
    free(sent);
    free(from);
    free(sources);
}

static zactor_t *sink;
static weir_vitals taken = WEIR_VITALS_INIT;

static void listen_weir(job *j, char endpoint[192])
{
    static weir_sink_null_config to;
    to = weir_sink_null_defaults;
    to.node.vitals = &taken;
    to.node.realm = j->realm;
    sink = zactor_new(weir_sink_null, &to);
    ask(sink, "LISTEN", "tcp://127.0.0.1:*", j->curve ? NULL : "plaintext", NULL);
    ask(sink, "START", NULL, NULL, NULL);
    weir_vitals_endpoint(&taken, endpoint);
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

static void *send_raw_blocks(void *arg)
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

static void send_raw(job *j, const char *endpoint)
{
    pthread_t *threads = calloc(j->links, sizeof *threads);
    if (!threads) abort();
    raw_sender sender = {.endpoint = {.endpoint = endpoint,
                                      .realm = j->realm,
                                      .plaintext = !j->curve,
                                      .server = j->curve ? "server" : NULL},
                         .block = make_block(),
                         .blocks = j->blocks / j->links};
    tell(j->go[1], "", 1);
    for (size_t i = 0; i < j->links; i++)
        pthread_create(&threads[i], NULL, send_raw_blocks, &sender);
    for (size_t i = 0; i < j->links; i++)
        pthread_join(threads[i], NULL);
    weir_realm_destroy(&j->realm); // when everything has left
    weir_block_destroy(&sender.block);
    free(threads);
}

static void *pull;

static void listen_raw(job *j, char endpoint[192])
{
    size_t size = 192;
    weir_report report = {0};
    weir_endpoint listen = {.endpoint = "tcp://127.0.0.1:*",
                            .realm = j->realm,
                            .plaintext = !j->curve,
                            .role = WEIR_ROLE_PRODUCE};
    pull = weir_socket_raw(ZMQ_PULL, &listen, true, 512, true, &report);
    must(pull, &report);
    zmq_getsockopt(pull, ZMQ_LAST_ENDPOINT, endpoint, &size);
}

static void take_raw(const job *j)
{
    for (uint64_t i = 0; i < j->blocks * 2; i++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        zmq_msg_recv(&part, pull, 0);
        zmq_msg_close(&part);
    }
}

/* --- Both processes ---------------------------------------------------------------- */

static void run_sender(job *j)
{
    char endpoint[192];
    weir_socket_prepare_program(); // 1,000 actors are more than CZMQ's 1,024 sockets
    open_realm(j, "client");
    hear(j->told[0], endpoint, sizeof endpoint);
    if (j->raw)
        send_raw(j, endpoint);
    else
        send_weir(j, endpoint);
    _exit(0);
}

static void run_receiver(job *j, pid_t sender)
{
    char endpoint[192] = "";
    int status = 0;
    weir_socket_prepare_program();
    open_realm(j, "server");
    if (j->raw)
        listen_raw(j, endpoint);
    else
        listen_weir(j, endpoint);
    tell(j->told[1], endpoint, sizeof endpoint);
    hear(j->go[0], &(char){0}, 1);
    double start = now_s(), cpu = cpu_s(RUSAGE_SELF);
    if (j->raw) take_raw(j);
    if (!j->raw) waitpid(sender, &status, 0);
    double seconds = now_s() - start;
    cpu = cpu_s(RUSAGE_SELF) - cpu;
    if (j->raw) waitpid(sender, &status, 0);
    if (status) exit(1);
    printf("%.1f %.1f %.1f\n", (double)j->blocks * body_bytes / seconds / 1e6,
           (cpu + cpu_s(RUSAGE_CHILDREN)) * 1e6 / (double)j->blocks,
           cpu * 1e6 / (double)j->blocks);
    if (pull) zmq_close(pull);
    zactor_destroy(&sink);
    weir_realm_destroy(&j->realm);
}

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    job j = {.raw = streq(argv[1], "raw"), .curve = streq(argv[2], "curve")};
    j.links = strtoull(argv[4], NULL, 10);
    j.blocks = strtoull(argv[3], NULL, 10) / j.links * j.links;
    weir_log_configure(WEIR_ERROR, false, STDERR_FILENO);
    make_keys(&j);
    if (pipe(j.told) || pipe(j.go)) abort();
    pid_t sender = fork(); // before there is any context
    if (sender == 0) run_sender(&j);
    run_receiver(&j, sender);
    remove_keys(&j);
    return 0;
}
