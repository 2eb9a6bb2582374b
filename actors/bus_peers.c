#include "actors/bus_peers.h"
#include "actors/bus_request.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include "runtime/rundir.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PORTS_MAX 2
#define FRAMES_MAX 4 // id, delimiter, request; one more to see that there are too many

static const int queue_max = 1000;        // replies to one peer
static const int64_t frame_max = 1 << 20; // a larger one ends the connection

/*  Bytes that libzmq still holds, of one peer or of all; it frees them in a thread of its
    own, maybe when the server has ended.                                               */
typedef struct weir_bus_unread {
    atomic_uint references;
    atomic_size_t bytes;
    struct weir_bus_unread *all; // a reference; NULL: this is of all
    int fd;                      // eventfd, owned; of all
} unread;

typedef struct {
    void *socket;
    bool secured;
    char endpoint[256];
} port;

struct weir_bus_peers {
    weir_bus_peers_config config;
    const weir_node *node;
    port ports[PORTS_MAX];
    int port_count, turn;
    int lock_fd;                            // of the local endpoint's name; -1
    char lock_name[WEIR_IPC_PATH_MAX + 32]; // TOPOLOGY.BUS
    char path[WEIR_IPC_PATH_MAX];           // of the local endpoint; "": none
    weir_bus_peer *peers;
    unread *all;
    zmq_msg_t frames[FRAMES_MAX];
    size_t frame_count;
};

/* --- What is not read -------------------------------------------------------------- */

static unread *unread_new(unread *all)
{
    unread *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->references = 1;
    self->all = all;
    self->fd = -1;
    if (all) all->references++;
    return self;
}

static void unread_release(unread *self)
{
    if (--self->references) return;
    if (self->all) unread_release(self->all);
    if (self->fd >= 0) close(self->fd);
    free(self);
}

typedef struct {
    unread *of; // a reference
    size_t size;
} sent;

static void left(void *data, void *hint)
{
    sent *s = hint;
    weir_handover_take(s);
    s->of->bytes -= s->size;
    s->of->all->bytes -= s->size;
    eventfd_write(s->of->all->fd, 1);
    unread_release(s->of);
    free(s);
    free(data);
}

static void make_message(weir_bus_peer *peer, zmq_msg_t *message, weir_buffer *bytes)
{
    sent *s = malloc(sizeof *s);
    if (!s) abort();
    *s = (sent){peer->unread, bytes->size};
    s->of->references++;
    s->of->bytes += s->size;
    s->of->all->bytes += s->size;
    weir_handover_give(s);
    if (zmq_msg_init_data(message, bytes->data, bytes->size, left, s)) abort();
    *bytes = (weir_buffer){0};
}

/*  Some that do not read must not keep the others from reading.                        */
size_t weir_bus_peer_room(const weir_bus_peer *self)
{
    if (self->unread->all->bytes < WEIR_BUS_UNREAD_ALL_MAX)
        return self->unread->bytes < WEIR_BUS_UNREAD_MAX ? WEIR_BUS_PAGE_MAX : 0;
    return self->unread->bytes == 0 ? WEIR_BUS_PAGE_SMALL : 0;
}

/* --- Open and close ---------------------------------------------------------------- */

static weir_err open_port(weir_bus_peers *self, const char *endpoint, bool plaintext,
                          weir_report *report)
{
    port *p = &self->ports[self->port_count];
    weir_endpoint at = {.endpoint = endpoint,
                        .realm = self->node->realm,
                        .plaintext = plaintext,
                        .role = WEIR_ROLE_CONSUME,
                        .message_max = frame_max};
    p->socket = weir_socket_raw(ZMQ_ROUTER, &at, true, queue_max, false, report);
    if (!p->socket) return report->err ? report->err : WEIR_ESYS;
    zmq_setsockopt(p->socket, ZMQ_ROUTER_MANDATORY, &(int){1}, sizeof(int));
    weir_socket_bound(p->socket, p->endpoint);
    p->secured = !plaintext && strncmp(endpoint, "tcp://", 6) == 0;
    weir_endpoint_warn(&(weir_endpoint){.endpoint = p->endpoint, .plaintext = plaintext});
    self->port_count++;
    return WEIR_OK;
}

/*  libzmq takes the place of any socket that is there, so the name must be ours first.
    A path that is too long for a socket is no reason not to run.                       */
static weir_err open_local(weir_bus_peers *self, weir_report *report)
{
    const weir_node *n = self->node;
    char endpoint[WEIR_IPC_PATH_MAX + 8];
    weir_report cause = {0};
    if (weir_rundir_bus(n->run_dir, n->topology, self->config.bus, self->path, &cause)) {
        weir_log(WEIR_WARN, "no local endpoint bus=%s cause=\"%s\"", self->config.bus,
                 cause.text);
        self->path[0] = 0;
        return WEIR_OK;
    }
    snprintf(self->lock_name, sizeof self->lock_name, "%s.%s", n->topology,
             self->config.bus);
    weir_err err = weir_rundir_open(n->run_dir, report);
    if (!err) err = weir_rundir_lock(&self->lock_fd, n->run_dir, self->lock_name, report);
    if (err) return err;
    snprintf(endpoint, sizeof endpoint, "ipc://%s", self->path);
    return open_port(self, endpoint, false, report);
}

weir_err weir_bus_peers_new(weir_bus_peers **self_p, const weir_bus_peers_config *config,
                            weir_report *report)
{
    const weir_node *node = weir_actor_node(config->kit);
    weir_err err = WEIR_OK;
    weir_bus_peers *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->node = node;
    self->lock_fd = -1;
    self->all = unread_new(NULL);
    self->all->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->all->fd < 0)
        err = weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    if (!err && node->run_dir && node->topology && node->realm)
        err = open_local(self, report);
    if (!err && config->listen)
        err = open_port(self, config->listen, config->plaintext, report);
    if (err || self->port_count == 0) weir_bus_peers_destroy(&self);
    *self_p = self;
    return err;
}

static void close_frames(weir_bus_peers *self)
{
    for (size_t i = 0; i < self->frame_count; i++)
        zmq_msg_close(&self->frames[i]);
    self->frame_count = 0;
}

static void free_peer(weir_bus_peer **at)
{
    weir_bus_peer *peer = *at;
    *at = peer->next;
    unread_release(peer->unread);
    free(peer);
}

void weir_bus_peers_destroy(weir_bus_peers **self_p)
{
    weir_bus_peers *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    close_frames(self);
    for (int i = 0; i < self->port_count; i++)
        zmq_close(self->ports[i].socket);
    if (self->lock_fd >= 0) unlink(self->path);
    weir_rundir_unlock(&self->lock_fd, self->node->run_dir, self->lock_name);
    while (self->peers)
        free_peer(&self->peers);
    unread_release(self->all);
    free(self);
}

/* --- Descriptors ------------------------------------------------------------------- */

int weir_bus_peers_fd(const weir_bus_peers *self, int number)
{
    int fd = -1;
    size_t size = sizeof fd;
    if (number < self->port_count)
        zmq_getsockopt(self->ports[number].socket, ZMQ_FD, &fd, &size);
    return fd;
}

int weir_bus_peers_room_fd(const weir_bus_peers *self)
{
    return self->all->fd;
}

const char *weir_bus_peers_endpoint(const weir_bus_peers *self, int number)
{
    return number < self->port_count ? self->ports[number].endpoint : NULL;
}

/* --- Peers ------------------------------------------------------------------------- */

weir_bus_peer *weir_bus_peers_first(weir_bus_peers *self)
{
    return self->peers;
}

static bool is_used(const weir_bus_peer *self)
{
    return self->held || (!self->gone && self->unread->bytes);
}

void weir_bus_peers_sweep(weir_bus_peers *self)
{
    eventfd_t count;
    eventfd_read(self->all->fd, &count);
    for (weir_bus_peer **at = &self->peers; *at;) {
        if (is_used(*at))
            at = &(*at)->next;
        else
            free_peer(at);
    }
}

static void copy_text(char *to, size_t room, const char *text)
{
    snprintf(to, room, "%s", text ? text : "");
}

/*  A connection under the id of another one, which has another certificate, is somebody
    else.                                                                               */
static bool is_same(const weir_bus_peer *peer, const weir_bus_peer *other)
{
    return !peer->gone && peer->port == other->port && peer->id_size == other->id_size &&
           memcmp(peer->id, other->id, peer->id_size) == 0 &&
           strcmp(peer->key, other->key) == 0;
}

/*  The sender of the message; a new one where it is not known.                         */
static weir_bus_peer *find_peer(weir_bus_peers *self, int number)
{
    zmq_msg_t *last = &self->frames[self->frame_count - 1];
    weir_bus_peer who = {.port = number, .id_size = zmq_msg_size(&self->frames[0])};
    if (who.id_size > sizeof who.id) who.id_size = sizeof who.id;
    memcpy(who.id, zmq_msg_data(&self->frames[0]), who.id_size);
    if (self->ports[number].secured) { // else it could say anything
        copy_text(who.name, sizeof who.name, zmq_msg_gets(last, "User-Id"));
        copy_text(who.key, sizeof who.key, zmq_msg_gets(last, "Weir-Key"));
    }
    for (weir_bus_peer *peer = self->peers; peer; peer = peer->next)
        if (is_same(peer, &who)) return peer;
    weir_bus_peer *peer = malloc(sizeof *peer);
    if (!peer) abort();
    *peer = who;
    peer->peers = self;
    peer->unread = unread_new(self->all);
    peer->next = self->peers;
    self->peers = peer;
    return peer;
}

/* --- Messages ---------------------------------------------------------------------- */

/*  False: there is none. Of too many frames one too many is kept.                      */
static bool receive(weir_bus_peers *self, int number)
{
    close_frames(self);
    for (bool more = true; more;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, self->ports[number].socket, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(&frame);
        if (self->frame_count == FRAMES_MAX) {
            zmq_msg_close(&frame);
            continue;
        }
        zmq_msg_init(&self->frames[self->frame_count]);
        zmq_msg_move(&self->frames[self->frame_count++], &frame);
    }
    return self->frame_count > 0;
}

/*  A connection outlives the certificate that it was made with.                        */
static bool is_allowed(const weir_bus_peers *self, const weir_bus_peer *peer)
{
    return !self->ports[peer->port].secured ||
           weir_realm_allows_key(self->node->realm, peer->name, peer->key,
                                 WEIR_ROLE_CONSUME);
}

static void refuse(weir_bus_message *message, const char *code, const char *why)
{
    message->code = code;
    message->refused = why;
}

static size_t count_known(const weir_bus_peers *self)
{
    size_t count = 0;
    for (const weir_bus_peer *peer = self->peers; peer; peer = peer->next)
        count += is_used(peer);
    return count;
}

static void judge(const weir_bus_peers *self, weir_bus_message *message, size_t frames)
{
    const weir_bus_peer *peer = message->peer;
    if (!is_allowed(self, peer))
        refuse(message, "refused", "your certificate has not the role consume any more");
    else if (frames != 1)
        refuse(message, "bad_request",
               "a request is one frame, behind an empty one if you like");
    else if (!is_used(peer) && count_known(self) >= WEIR_BUS_PEERS_MAX)
        refuse(message, "full", "there are too many clients: come again later");
}

bool weir_bus_peers_next(weir_bus_peers *self, weir_bus_message *message)
{
    for (int i = 0; i < self->port_count; i++) {
        int number = self->turn++ % self->port_count;
        if (!receive(self, number)) continue;
        *message = (weir_bus_message){.peer = find_peer(self, number)};
        size_t first = 1;
        if (self->frame_count > 1 && zmq_msg_size(&self->frames[1]) == 0) first++;
        message->delimited = first == 2;
        if (self->frame_count > first) {
            message->data = zmq_msg_data(&self->frames[first]);
            message->size = zmq_msg_size(&self->frames[first]);
        }
        judge(self, message, self->frame_count - first);
        return true;
    }
    return false;
}

/*  Only the first part can fail: mandatory routing says that the peer is gone, or that
    its queue is full. */
void weir_bus_peer_send(weir_bus_peer *self, bool delimited, weir_buffer *bytes)
{
    void *socket = self->peers->ports[self->port].socket;
    const int more = ZMQ_DONTWAIT | ZMQ_SNDMORE;
    zmq_msg_t message;
    if (self->gone || zmq_send(socket, self->id, self->id_size, more) < 0) {
        self->gone = self->gone || errno != EAGAIN;
        weir_buffer_fini(bytes);
        return;
    }
    if (delimited) zmq_send(socket, "", 0, more);
    make_message(self, &message, bytes);
    if (zmq_msg_send(&message, socket, ZMQ_DONTWAIT) < 0) zmq_msg_close(&message);
}
