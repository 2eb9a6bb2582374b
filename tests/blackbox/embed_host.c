/*  Host programs for test_embed.py, one a word: what a host has of its own must be what
    it was, before and after Weir.

    embed_host send ENDPOINT COUNT    appends {"n":1} .. and tells when all are safe
    embed_host serve ENDPOINT COUNT   has a bus on disk that listens there; ends with
    stdin embed_host own | late | czmq      a handler of its own, set before CZMQ began or
                                      after; CZMQ's
    embed_host two FOLDER             two instances, each with keys, inlet and bus */
#include <czmq.h>
#include <inttypes.h>
#include "actors/bus.h"
#include "actors/sink_null.h"

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    interrupts++;
}

static void need(bool good, const char *what)
{
    if (good) return;
    fprintf(stderr, "embed_host: %s\n", what);
    exit(1);
}

static weir_bus *open_bus(const char *name, const char *endpoint, const char *server,
                          weir_realm *realm)
{
    weir_bus *bus;
    weir_report report;
    weir_bus_config config = weir_bus_defaults;
    config.name = name;
    config.connect = endpoint;
    config.server = server;
    config.realm = realm;
    need(weir_bus_new(&bus, &config, &report) == WEIR_OK, report.text);
    return bus;
}

static void append(weir_bus *bus, uint64_t from, uint64_t to)
{
    char text[32];
    for (uint64_t i = from, ticket = 0; i <= to; i++) {
        int size = snprintf(text, sizeof text, "{\"n\":%" PRIu64 "}", i);
        need(weir_bus_append_payload(bus, WEIR_JSON, text, (size_t)size, &ticket) ==
                 WEIR_OK,
             "a record is refused");
        need(ticket == i, "a ticket is not the number of its record");
    }
}

/* --- Sending ----------------------------------------------------------------------- */

/*  Half of it, a line that the test waits for, the rest.                      */
static int send_all(const char *endpoint, uint64_t count)
{
    weir_bus *bus = open_bus("host", endpoint, NULL, NULL);
    append(bus, 1, count / 2);
    need(weir_bus_flush(bus, 60000) == WEIR_OK, "the first half is not safe");
    printf("half\n");
    fflush(stdout);
    append(bus, count / 2 + 1, count);
    need(weir_bus_flush(bus, 60000) == WEIR_OK, "the second half is not safe");
    printf("safe up to %" PRIu64 "\n", weir_bus_acked(bus));
    return weir_bus_destroy(&bus, 0) != 0;
}

/* --- Being read -------------------------------------------------------------------- */

static int serve(const char *endpoint, uint64_t count)
{
    const char *const options[] = {"store",  "disk",   "disk.keep", "all",
                                   "listen", endpoint, NULL};
    weir_bus *bus;
    weir_report report;
    weir_bus_config config = weir_bus_defaults;
    config.name = "host";
    config.options = options;
    config.state_dir = "host-state";
    need(weir_bus_new(&bus, &config, &report) == WEIR_OK, report.text);
    append(bus, 1, count);
    need(weir_bus_flush(bus, 60000) == WEIR_OK, "the records are not safe");
    getchar();
    return weir_bus_destroy(&bus, 1000) != 0;
}

/* --- What is the host's own -------------------------------------------------------- */

static zactor_t *open_sink(weir_sink_null_config *config, const char *endpoint)
{
    zmsg_t *reply = NULL;
    zactor_t *sink = zactor_new(weir_sink_null, config);
    weir_err err = weir_actor_ask(sink, &reply, "LISTEN", endpoint, NULL);
    char *text = zmsg_popstr(reply);
    need(err == WEIR_OK, text);
    zstr_free(&text);
    zmsg_destroy(&reply);
    need(weir_actor_ask(sink, NULL, "START", NULL) == WEIR_OK, "it does not start");
    return sink;
}

static void use_weir(void)
{
    static weir_sink_null_config config;
    config = weir_sink_null_defaults;
    weir_bus *bus = open_bus("host", "inproc://sink", NULL, NULL);
    zactor_t *sink = open_sink(&config, "inproc://sink");
    append(bus, 1, 1000);
    need(weir_bus_flush(bus, 10000) == WEIR_OK, "it is not safe");
    raise(SIGINT);
    need(weir_bus_destroy(&bus, 1000) == 0, "something is not safe");
    zactor_destroy(&sink);
}

static void echo(zsock_t *pipe, void *arg)
{
    (void)arg;
    zsock_signal(pipe, 0);
    for (char *text; (text = zstr_recv(pipe)); zstr_free(&text)) {
        if (streq(text, "$TERM")) break;
        zstr_send(pipe, text);
    }
}

/*  The host's own actor lives before, during and after Weir.                  */
static void ask_echo(zactor_t *own)
{
    zstr_send(own, "hello");
    char *text = zstr_recv(own);
    need(text && streq(text, "hello"), "the host's own actor does not answer");
    zstr_free(&text);
}

/*  Weir's bus is what makes CZMQ begin.                                       */
static int own_handler(void)
{
    weir_bus *bus;
    signal(SIGINT, on_interrupt);
    bus = open_bus("host", "inproc://nobody", NULL, NULL);
    raise(SIGINT);
    weir_bus_destroy(&bus, 0);
    raise(SIGINT);
    need(interrupts == 2 && !zsys_interrupted, "the host's handler is not called");
    need(signal(SIGTERM, SIG_DFL) == SIG_DFL, "SIGTERM has a handler");
    return 0;
}

static int late_handler(void)
{
    zactor_t *own = zactor_new(echo, NULL);
    signal(SIGINT, on_interrupt); // in the place of CZMQ's
    ask_echo(own);
    use_weir();
    ask_echo(own);
    raise(SIGINT);
    need(interrupts == 2 && !zsys_interrupted, "the host's handler is not called");
    zactor_destroy(&own);
    return 0;
}

/*  A host that leaves signals and log to CZMQ.                                */
static int handler_of_czmq(void)
{
    zactor_t *own = zactor_new(echo, NULL);
    use_weir();
    need(zsys_interrupted, "CZMQ's own handler is not called");
    zsys_interrupted = 0;
    ask_echo(own);
    zsys_info("the log of the host");
    zactor_destroy(&own);
    return 0;
}

/* --- Two instances ----------------------------------------------------------------- */

static void make_keys(const char *folder, const char *name, weir_cert *cert)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/peers", folder, name);
    zsys_dir_create("%s", path);
    weir_cert_make(cert, name);
    snprintf(path, sizeof path, "%s/%s/self.key", folder, name);
    need(weir_cert_write(cert, path, NULL) == WEIR_OK, "keys are not written");
}

static void allow(const char *folder, const char *node, const weir_cert *peer)
{
    char path[512];
    weir_cert cert = *peer;
    cert.secret_key[0] = 0;
    cert.roles = WEIR_ROLE_PRODUCE;
    snprintf(path, sizeof path, "%s/%s/peers/%s.pub", folder, node, cert.name);
    need(weir_cert_write(&cert, path, NULL) == WEIR_OK, "a peer is not allowed");
}

typedef struct {
    weir_realm *realm;
    weir_sink_null_config config;
    weir_vitals vitals;
    zactor_t *sink;
    char endpoint[64];
    weir_bus *bus; // to the other one's inlet
} instance;

static void open_instance(instance *self, const char *folder, const char *name)
{
    char path[512];
    weir_report report = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    need(weir_realm_new(&self->realm, path, &report) == WEIR_OK, report.text);
    self->vitals = (weir_vitals)WEIR_VITALS_INIT;
    self->config = weir_sink_null_defaults;
    self->config.node.realm = self->realm;
    self->config.node.vitals = &self->vitals;
    self->sink = open_sink(&self->config, "tcp://127.0.0.1:*");
    char endpoint[192];
    weir_vitals_endpoint(&self->vitals, endpoint);
    snprintf(self->endpoint, sizeof self->endpoint, "%.63s", endpoint);
}

static void close_instance(instance *self)
{
    need(weir_bus_destroy(&self->bus, 10000) == 0, "something is not safe");
    need(weir_count_get(&self->vitals, WEIR_COUNT_DONE) == 1000, "not all has come");
    zactor_destroy(&self->sink);
}

static int two_instances(const char *folder)
{
    instance a = {0}, b = {0};
    weir_cert of_a, of_b;
    make_keys(folder, "a", &of_a);
    make_keys(folder, "b", &of_b);
    allow(folder, "a", &of_b);
    allow(folder, "b", &of_a);
    open_instance(&a, folder, "a");
    open_instance(&b, folder, "b");
    a.bus = open_bus("a", b.endpoint, "b", a.realm);
    b.bus = open_bus("b", a.endpoint, "a", b.realm);
    append(a.bus, 1, 1000);
    append(b.bus, 1, 1000);
    need(weir_bus_flush(a.bus, 10000) == WEIR_OK, "a's records are not safe");
    need(weir_bus_flush(b.bus, 10000) == WEIR_OK, "b's records are not safe");
    close_instance(&a);
    close_instance(&b);
    weir_realm_destroy(&a.realm);
    weir_realm_destroy(&b.realm);
    return 0;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (streq(word, "send")) return send_all(argv[2], strtoull(argv[3], NULL, 10));
    if (streq(word, "serve")) return serve(argv[2], strtoull(argv[3], NULL, 10));
    if (streq(word, "own")) return own_handler();
    if (streq(word, "late")) return late_handler();
    if (streq(word, "czmq")) return handler_of_czmq();
    if (streq(word, "two")) return two_instances(argv[2]);
    return 2;
}
