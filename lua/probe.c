#include "lua/probe.h"
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>
#include "runtime/clock.h"

static const int connect_ms = 5000;
static const int greeting_ms = 3000;
static const int handshake_ms = 3000;

/* --- Results ----------------------------------------------------------------------- */

const char *weir_probe_text(weir_probe_result result)
{
    static const char *const texts[] = {
        [WEIR_PROBE_WORKS] = "it works",
        [WEIR_PROBE_ENDPOINT] = "expected tcp://HOST:PORT",
        [WEIR_PROBE_HOST] = "there is no such host: look for a mistyped name",
        [WEIR_PROBE_NOBODY] = "nobody listens there: is it running, and is it the port "
                              "that its topology listens at?",
        [WEIR_PROBE_FAR] = "no answer: look at the network and at firewalls between",
        [WEIR_PROBE_SILENT] =
            "it takes connections and says nothing: that is no weir, or "
            "one that is stopped or has too many connections",
        [WEIR_PROBE_ALIEN] = "it does not speak ZeroMQ's protocol: that is another "
                             "service's port",
        [WEIR_PROBE_OPEN] =
            "it speaks ZeroMQ without CURVE: it listens with plaintext = "
            "true, so either secure it, or say plaintext = true here, too",
        [WEIR_PROBE_CURVE] =
            "it speaks CURVE; --server NAME says whose certificate to try",
        [WEIR_PROBE_REFUSED] =
            "it refuses our key: over there, weir keys allow our "
            "self.pub with the role that it asks for; weir keys doctor "
            "over there tells the cause",
        [WEIR_PROBE_KEY] =
            "it ends the handshake: its key is not the one in our "
            "certificate of it; get its self.pub anew (weir keys show over "
            "there prints the short form, as it does here)",
    };
    return texts[result];
}

/* --- TCP --------------------------------------------------------------------------- */

static weir_probe_result judge_errno(int error, char detail[128])
{
    snprintf(detail, 128, "%s", strerror(error));
    return error == ECONNREFUSED ? WEIR_PROBE_NOBODY : WEIR_PROBE_FAR;
}

/*  *fd is the caller's to close, if it works.                                 */
static weir_probe_result connect_to(int *fd, const struct addrinfo *to, char detail[128])
{
    int error = 0;
    socklen_t size = sizeof error;
    *fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0) return judge_errno(errno, detail);
    struct pollfd wait = {.fd = *fd, .events = POLLOUT};
    if (connect(*fd, to->ai_addr, to->ai_addrlen) && errno != EINPROGRESS)
        error = errno;
    else if (poll(&wait, 1, connect_ms) <= 0)
        error = ETIMEDOUT;
    else
        getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (!error) return WEIR_PROBE_WORKS;
    close(*fd);
    return judge_errno(error, detail);
}

static weir_probe_result open_tcp(int *fd, const char *endpoint, char detail[128])
{
    char host[256];
    const char *port = strrchr(endpoint, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    if (strncmp(endpoint, "tcp://", 6) || port < endpoint + 7 || !port[1])
        return WEIR_PROBE_ENDPOINT;
    const char *begin = endpoint + 6, *end = port;
    if (*begin == '[' && end[-1] == ']') begin++, end--;
    snprintf(host, sizeof host, "%.*s", (int)(end - begin), begin);
    int bad = getaddrinfo(host, port + 1, &hints, &list);
    if (bad) {
        snprintf(detail, 128, "%s", gai_strerror(bad));
        return WEIR_PROBE_HOST;
    }
    weir_probe_result result = WEIR_PROBE_HOST;
    for (struct addrinfo *to = list; to && result; to = to->ai_next)
        result = connect_to(fd, to, detail);
    freeaddrinfo(list);
    return result;
}

/* --- Greeting ---------------------------------------------------------------------- */

/*  ZMTP 3.0: signature FF 00*8 7F, version 3 1, mechanism in 20 bytes, as-server, zeros.
 */
enum { GREETING = 64, SIGNATURE_END = 9, MECHANISM = 12 };

static size_t read_greeting(int fd, uint8_t greeting[GREETING])
{
    size_t have = 0;
    int64_t deadline_us = weir_clock_now_us() + greeting_ms * 1000;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (have < GREETING && poll(&wait, 1, weir_clock_timeout_ms(deadline_us)) > 0) {
        ssize_t got = recv(fd, greeting + have, GREETING - have, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) break;
        have += (size_t)got;
    }
    return have;
}

/*  Our mechanism is held back: who has another would hang up before telling his. */
static weir_probe_result greet(int fd, char detail[128])
{
    static const uint8_t own[MECHANISM] = {0xff, [SIGNATURE_END] = 0x7f, 3, 1};
    uint8_t theirs[GREETING + 1] = {0};
    send(fd, own, sizeof own, MSG_NOSIGNAL);
    size_t have = read_greeting(fd, theirs);
    if (have == 0) return WEIR_PROBE_SILENT;
    if (have < GREETING || theirs[0] != 0xff || theirs[SIGNATURE_END] != 0x7f)
        return WEIR_PROBE_ALIEN;
    snprintf(detail, 128, "%.20s", (char *)theirs + MECHANISM);
    return strcmp(detail, "CURVE") ? WEIR_PROBE_OPEN : WEIR_PROBE_CURVE;
}

/* --- Handshake --------------------------------------------------------------------- */

static int next_event(void *monitor)
{
    uint8_t head[6];
    uint16_t number;
    if (zmq_recv(monitor, head, sizeof head, 0) != sizeof head) return 0;
    zmq_recv(monitor, NULL, 0, 0);
    memcpy(&number, head, sizeof number);
    return number;
}

/*  A server that refuses says so; one whose key is another understands nothing and
    ends the connection, as one does whose socket is of another kind.          */
static weir_probe_result await_result(void *monitor)
{
    zmq_setsockopt(monitor, ZMQ_RCVTIMEO, &handshake_ms, sizeof handshake_ms);
    for (;;) {
        switch (next_event(monitor)) {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            return WEIR_PROBE_WORKS;
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            return WEIR_PROBE_REFUSED;
        case ZMQ_EVENT_CONNECTED:
        case ZMQ_EVENT_CONNECT_DELAYED:
            break;
        default:
            return WEIR_PROBE_KEY;
        }
    }
}

static void set_int(void *handle, int option, int value)
{
    zmq_setsockopt(handle, option, &value, sizeof value);
}

static weir_probe_result shake_hands(void *context, int type, const char *endpoint,
                                     const weir_cert *own, const char *server_key)
{
    char address[32];
    snprintf(address, sizeof address, "inproc://monitor-%d", type);
    void *handle = zmq_socket(context, type), *monitor = zmq_socket(context, ZMQ_PAIR);
    weir_probe_result result = WEIR_PROBE_ENDPOINT;
    set_int(handle, ZMQ_LINGER, 0);
    set_int(handle, ZMQ_IPV6, 1);
    set_int(handle, ZMQ_RECONNECT_IVL, -1);
    set_int(handle, ZMQ_HANDSHAKE_IVL, handshake_ms);
    zmq_setsockopt(handle, ZMQ_CURVE_SERVERKEY, server_key, WEIR_KEY_MAX - 1);
    zmq_setsockopt(handle, ZMQ_CURVE_PUBLICKEY, own->public_key, WEIR_KEY_MAX - 1);
    zmq_setsockopt(handle, ZMQ_CURVE_SECRETKEY, own->secret_key, WEIR_KEY_MAX - 1);
    zmq_socket_monitor(handle, address, ZMQ_EVENT_ALL);
    zmq_connect(monitor, address);
    if (zmq_connect(handle, endpoint) == 0) result = await_result(monitor);
    zmq_socket_monitor(handle, NULL, 0);
    zmq_close(monitor);
    zmq_close(handle);
    return result;
}

/*  As an outlet does, and then as those who speak to other kinds of sockets.  */
static weir_probe_result shake_any(const char *endpoint, const weir_cert *own,
                                   const char *server_key)
{
    static const int types[] = {ZMQ_DEALER, ZMQ_PUSH, ZMQ_PULL, ZMQ_SUB};
    void *context = zmq_ctx_new();
    weir_probe_result result = WEIR_PROBE_KEY;
    for (size_t i = 0; i < 4 && result == WEIR_PROBE_KEY; i++)
        result = shake_hands(context, types[i], endpoint, own, server_key);
    zmq_ctx_term(context);
    return result;
}

weir_probe_result weir_probe(const char *endpoint, const weir_cert *own,
                             const char *server_key, char detail[128])
{
    int fd;
    *detail = 0;
    weir_probe_result result = open_tcp(&fd, endpoint, detail);
    if (result) return result;
    result = greet(fd, detail);
    close(fd);
    if (result != WEIR_PROBE_CURVE || !server_key) return result;
    return shake_any(endpoint, own, server_key);
}
