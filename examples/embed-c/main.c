/*  A CZMQ program with a life of its own: a SIGINT handler, a zauth, a CURVE socket on
    which readings arrive, a poller. What is new is the bus: each reading is appended to
    it, and the poller tells when they are safe in a weir.

    embed-c ENDPOINT [COUNT]      COUNT readings, or as many as come before SIGINT     */
#include <actors/bus.h>
#include <czmq.h>
#include <inttypes.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = number;
}

/*  The program's own encrypted socket, behind its own zauth.                  */
static zsock_t *open_door(zcert_t *cert, char address[64])
{
    zsock_t *door = zsock_new(ZMQ_PULL);
    zsock_set_zap_domain(door, "readings");
    zsock_set_curve_server(door, 1);
    zcert_apply(cert, door);
    int port = zsock_bind(door, "tcp://127.0.0.1:*");
    snprintf(address, 64, "tcp://127.0.0.1:%d", port);
    return door;
}

static zsock_t *open_sensor(zcert_t *cert, zcert_t *server, const char *address)
{
    zsock_t *sensor = zsock_new(ZMQ_PUSH);
    zsock_set_curve_serverkey(sensor, zcert_public_txt(server));
    zcert_apply(cert, sensor);
    zsock_connect(sensor, "%s", address);
    return sensor;
}

/*  One reading from the door into the bus.                                    */
static bool forward(zsock_t *door, weir_bus *bus)
{
    char *text = zstr_recv(door);
    weir_err err = text
                       ? weir_bus_append_payload(bus, WEIR_JSON, text, strlen(text), NULL)
                       : WEIR_OK;
    if (err) fprintf(stderr, "embed-c: %s\n", weir_err_name(err));
    zstr_free(&text);
    return !err;
}

int main(int argc, char **argv)
{
    if (argc < 2) return fprintf(stderr, "usage: embed-c ENDPOINT [COUNT]\n"), 2;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : UINT64_MAX, sent = 0,
             safe = 0;
    zsys_handler_set(NULL); // CZMQ leaves signals to us
    signal(SIGINT, on_interrupt);
    zactor_t *auth = zactor_new(zauth, NULL);
    zstr_sendx(auth, "CURVE", CURVE_ALLOW_ANY, NULL);
    zsock_wait(auth);
    char address[64];
    zcert_t *server = zcert_new(), *client = zcert_new();
    zsock_t *door = open_door(server, address);
    zsock_t *sensor = open_sensor(client, server, address);

    weir_bus *bus;
    weir_report report;
    weir_bus_config config = weir_bus_defaults;
    config.name = "embed-c";
    config.connect = argv[1];
    if (weir_bus_new(&bus, &config, &report)) {
        fprintf(stderr, "embed-c: %s: %s\n", report.where, report.text);
        return 1;
    }
    int fd = weir_bus_fd(bus);
    zpoller_t *poller = zpoller_new(door, &fd, NULL);
    while (!interrupted && safe < count) {
        if (sent < count) zstr_sendf(sensor, "{\"reading\":%" PRIu64 "}", ++sent);
        void *ready = zpoller_wait(poller, sent < count ? 1 : 1000);
        if (ready == door && !forward(door, bus)) break;
        if (ready == &fd && read(fd, &(uint64_t){0}, sizeof(uint64_t)) > 0)
            safe = weir_bus_acked(bus);
    }
    uint64_t appended = weir_bus_appended(bus);
    uint64_t unsafe = weir_bus_destroy(&bus, 5000);
    printf("%s%" PRIu64 " readings appended, %" PRIu64 " not safe\n",
           interrupted ? "interrupted: " : "", appended, unsafe);

    zpoller_destroy(&poller);
    zsock_destroy(&sensor);
    zsock_destroy(&door);
    zcert_destroy(&client);
    zcert_destroy(&server);
    zactor_destroy(&auth);
    return unsafe > 0;
}
