#include "door.h"

enum { WORKERS = 3 };

volatile sig_atomic_t interrupted;
static zactor_t *auth, *workers[WORKERS];
static zcert_t *cert;
static zsock_t *source;
static door_use *use;

static void on_interrupt(int number)
{
    interrupted = number;
}

static void work(zsock_t *pipe, void *arg)
{
    zsock_t *readings = zsock_new(ZMQ_PULL);
    zpoller_t *poller = zpoller_new(pipe, readings, NULL);
    (void)arg;
    zsock_set_curve_serverkey(readings, zcert_public_txt(cert));
    zcert_apply(cert, readings);
    zsock_connect(readings, "ipc://readings.sock");
    zsock_signal(pipe, 0);
    for (void *ready; (ready = zpoller_wait(poller, -1)) != pipe;) {
        char *text = ready ? zstr_recv(readings) : NULL;
        if (text) use(text);
        zstr_free(&text);
    }
    zpoller_destroy(&poller);
    zsock_destroy(&readings);
}

static void open_source(void)
{
    source = zsock_new(ZMQ_PUSH);
    zsock_set_zap_domain(source, "readings");
    zsock_set_curve_server(source, 1);
    zcert_apply(cert, source);
    zsock_bind(source, "ipc://readings.sock");
}

zsock_t *door_open(door_use *for_each)
{
    use = for_each;
    zsys_handler_set(NULL); // CZMQ leaves signals to us
    signal(SIGINT, on_interrupt);
    cert = zcert_new();
    auth = zactor_new(zauth, NULL);
    zstr_sendx(auth, "CURVE", CURVE_ALLOW_ANY, NULL);
    zsock_wait(auth);
    open_source();
    for (int i = 0; i < WORKERS; i++)
        workers[i] = zactor_new(work, NULL);
    return source;
}

void door_close(void)
{
    for (int i = 0; i < WORKERS; i++)
        zactor_destroy(&workers[i]);
    zsock_destroy(&source);
    zactor_destroy(&auth);
    zcert_destroy(&cert);
}
