/*  Appends of 100-byte records to a bus from one thread, until all are safe, against
    what ZeroMQ itself does in the same program with one message a record over inproc:
    the faster of zmq_send and zmq_recv in turn in one thread, and in two threads.

    bench_append [RECORDS]      prints both rates, a second, and the ratio             */
#include "actors/bus.h"
#include "actors/sink_null.h"
#include <stdio.h>
#include <time.h>

#define SIZE 100
#define ROUNDS 5

static long records = 5000000;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- ZeroMQ ------------------------------------------------------------------------ */

typedef struct {
    void *context, *sender, *receiver;
} line;

static line line_new(void)
{
    static const int none = 0, linger = 0;
    line self = {.context = zmq_ctx_new()};
    self.sender = zmq_socket(self.context, ZMQ_PAIR);
    self.receiver = zmq_socket(self.context, ZMQ_PAIR);
    zmq_setsockopt(self.sender, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(self.receiver, ZMQ_RCVHWM, &none, sizeof none);
    zmq_setsockopt(self.sender, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_bind(self.receiver, "inproc://line") ||
        zmq_connect(self.sender, "inproc://line"))
        abort();
    return self;
}

static void line_fini(line *self)
{
    zmq_close(self->sender);
    zmq_close(self->receiver);
    zmq_ctx_term(self->context);
}

static double in_turn(void)
{
    char message[SIZE] = {0};
    line self = line_new();
    double start = now();
    for (long i = 0; i < records; i++) {
        zmq_send(self.sender, message, SIZE, 0);
        zmq_recv(self.receiver, message, SIZE, 0);
    }
    double seconds = now() - start;
    line_fini(&self);
    return (double)records / seconds;
}

static void *receive(void *arg)
{
    char message[SIZE];
    for (long i = 0; i < records; i++)
        zmq_recv(arg, message, SIZE, 0);
    return NULL;
}

static double in_two_threads(void)
{
    char message[SIZE] = {0};
    pthread_t thread;
    line self = line_new();
    double start = now();
    pthread_create(&thread, NULL, receive, self.receiver);
    for (long i = 0; i < records; i++)
        zmq_send(self.sender, message, SIZE, 0);
    pthread_join(thread, NULL);
    double seconds = now() - start;
    line_fini(&self);
    return (double)records / seconds;
}

/* --- The bus ----------------------------------------------------------------------- */

/*  A name of its own each time: libzmq lets go of one some time after its socket.  */
static zactor_t *open_sink(char endpoint[64])
{
    static int number;
    static weir_sink_null_config config; // lent to the actor
    config = weir_sink_null_defaults;
    snprintf(endpoint, 64, "inproc://bench-%d", number++);
    zactor_t *sink = zactor_new(weir_sink_null, &config);
    if (weir_actor_ask(sink, NULL, "LISTEN", endpoint, NULL) ||
        weir_actor_ask(sink, NULL, "START", NULL))
        abort();
    return sink;
}

static double through_bus(void)
{
    char payload[SIZE], endpoint[64];
    weir_bus_config config = weir_bus_defaults;
    weir_report report = {0};
    weir_bus *bus;
    memset(payload, 'x', SIZE);
    zactor_t *sink = open_sink(endpoint);
    config.connect = endpoint;
    if (weir_bus_new(&bus, &config, &report)) {
        fprintf(stderr, "%s\n", report.text);
        exit(1);
    }
    double start = now();
    for (long i = 0; i < records; i++)
        if (weir_bus_append_payload(bus, WEIR_JSON, payload, SIZE, NULL)) abort();
    if (weir_bus_flush(bus, -1)) abort();
    double seconds = now() - start;
    weir_bus_destroy(&bus, 1000);
    zactor_destroy(&sink);
    return (double)records / seconds;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    double ratios[ROUNDS];
    if (argc > 1) records = atol(argv[1]);
    for (int i = 0; i < ROUNDS; i++) {
        double ours = through_bus(), turns = in_turn(), threads = in_two_threads();
        double limit = turns > threads ? turns : threads;
        ratios[i] = ours / limit;
        printf("%.0f appends/s, %.0f (in turn), %.0f (two threads) messages/s: %.2f\n",
               ours, turns, threads, ratios[i]);
        fflush(stdout);
    }
    qsort(ratios, ROUNDS, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[ROUNDS / 2]);
    return 0;
}
