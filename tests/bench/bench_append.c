/*  Appends of 100-byte records from one thread to a bus in memory, of one shard that is
    read by a sink.null, until all are safe, against what ZeroMQ itself does in the same
    program with one message a record over inproc: the faster of zmq_send and zmq_recv in
    turn in one thread, and in two threads.

    bench_append [RECORDS]      prints each round, and the median ratio of rates. CPU is
                                that of the thread that appends, or sends, a record: what
                                other load on the machine disturbs least            */
#include "actors/bus.h"
#include "actors/sink_null.h"
#include <stdio.h>
#include <time.h>

#define SIZE 100
#define ROUNDS 5

static long records = 20000000; // so that the first pages of a new bus hardly count

/*  Of one run, a record.                                                      */
typedef struct {
    double ns;     // of time
    double cpu_ns; // of this thread
} cost;

static double read_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static cost now(void)
{
    return (cost){read_ns(CLOCK_MONOTONIC), read_ns(CLOCK_THREAD_CPUTIME_ID)};
}

static cost since(cost start)
{
    cost end = now();
    return (cost){(end.ns - start.ns) / (double)records,
                  (end.cpu_ns - start.cpu_ns) / (double)records};
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

static cost in_turn(void)
{
    char message[SIZE] = {0};
    line self = line_new();
    cost start = now();
    for (long i = 0; i < records; i++) {
        zmq_send(self.sender, message, SIZE, 0);
        zmq_recv(self.receiver, message, SIZE, 0);
    }
    cost spent = since(start);
    line_fini(&self);
    return spent;
}

static void *receive(void *arg)
{
    char message[SIZE];
    for (long i = 0; i < records; i++)
        zmq_recv(arg, message, SIZE, 0);
    return NULL;
}

static cost in_two_threads(void)
{
    char message[SIZE] = {0};
    pthread_t thread;
    line self = line_new();
    cost start = now();
    pthread_create(&thread, NULL, receive, self.receiver);
    for (long i = 0; i < records; i++)
        zmq_send(self.sender, message, SIZE, 0);
    pthread_join(thread, NULL);
    cost spent = since(start);
    line_fini(&self);
    return spent;
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

static cost through_bus(void)
{
    static const char *const options[] = {"shards", "1", NULL};
    char payload[SIZE], endpoint[64];
    weir_bus_config config = weir_bus_defaults;
    weir_report report = {0};
    weir_bus *bus;
    memset(payload, 'x', SIZE);
    zactor_t *sink = open_sink(endpoint);
    config.options = options;
    config.reader = endpoint;
    if (weir_bus_new(&bus, &config, &report)) {
        fprintf(stderr, "%s: %s\n", report.where, report.text);
        exit(1);
    }
    cost start = now();
    for (long i = 0; i < records; i++)
        if (weir_bus_append_payload(bus, WEIR_JSON, payload, SIZE, NULL)) abort();
    if (weir_bus_flush(bus, -1)) abort();
    cost spent = since(start);
    weir_bus_destroy(&bus, 1000);
    zactor_destroy(&sink);
    return spent;
}

/* --- Rounds ------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double one_round(void)
{
    cost ours = through_bus(), turns = in_turn(), threads = in_two_threads();
    double limit = turns.ns < threads.ns ? turns.ns : threads.ns;
    printf(
        "%.0f appends/s, %.0f (in turn), %.0f (two threads) messages/s; CPU %.0f, %.0f, "
        "%.0f ns: %.2f\n",
        1e9 / ours.ns, 1e9 / turns.ns, 1e9 / threads.ns, ours.cpu_ns, turns.cpu_ns,
        threads.cpu_ns, limit / ours.ns);
    fflush(stdout);
    return limit / ours.ns;
}

int main(int argc, char **argv)
{
    double ratios[ROUNDS];
    if (argc > 1) records = atol(argv[1]);
    for (int i = 0; i < ROUNDS; i++)
        ratios[i] = one_round();
    qsort(ratios, ROUNDS, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[ROUNDS / 2]);
    return 0;
}
