#include "actors/jetstream_probe.h"
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "runtime/clock.h"

enum { greeting_max = 32 << 10, share_least_us = 250000 };

static bool fail(weir_nats_probe_result *result, const char *text)
{
    snprintf(result->text, sizeof result->text, "%s", text);
    return false;
}

/*  Until the socket is ready. 0, or why not, as errno.                              */
static int wait_for(const weir_nats_probe_config *config, int fd, short events,
                    int64_t deadline_us)
{
    struct pollfd fds[] = {{.fd = fd, .events = events},
                           {.fd = config->wake, .events = POLLIN}};
    while (!atomic_load(config->stop)) {
        int rc = poll(fds, 2, weir_clock_timeout_ms(deadline_us));
        if (rc < 0 && errno != EINTR) return errno;
        if (fds[1].revents) eventfd_read(config->wake, &(eventfd_t){0});
        if (rc > 0 && fds[0].revents) return 0;
        if (weir_clock_now_us() >= deadline_us) return ETIMEDOUT;
    }
    return ECANCELED;
}

static int reach(const weir_nats_probe_config *config, int fd, const struct addrinfo *to,
                 int64_t deadline_us)
{
    int err = 0;
    socklen_t size = sizeof err;
    if (connect(fd, to->ai_addr, to->ai_addrlen) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    int rc = wait_for(config, fd, POLLOUT, deadline_us);
    if (rc) return rc;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) ? errno : err;
}

/*  INFO {"server_id":..}\r\n, which one segment may not hold.                       */
static bool read_greeting(const weir_nats_probe_config *config, int fd,
                          int64_t deadline_us, weir_nats_probe_result *result)
{
    char line[greeting_max + 1];
    size_t size = 0;
    while (size < greeting_max && !memchr(line, '\n', size)) {
        int err = wait_for(config, fd, POLLIN, deadline_us);
        if (err == ETIMEDOUT) return fail(result, "it accepts, but does not answer");
        if (err) return fail(result, strerror(err));
        ssize_t n = recv(fd, line + size, greeting_max - size, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return fail(result, strerror(errno));
        if (n == 0) return fail(result, "it has closed the connection");
        if (n > 0) size += (size_t)n;
    }
    line[size] = '\0';
    if (strncmp(line, "INFO ", 5)) return fail(result, "it is no NATS server");
    result->wants_tls = strstr(line, "\"tls_required\":true");
    result->wants_certificate = strstr(line, "\"tls_verify\":true");
    result->knows_keys = strstr(line, "\"nonce\":\"");
    return true;
}

static bool try_address(const weir_nats_probe_config *config, const struct addrinfo *to,
                        int64_t deadline_us, weir_nats_probe_result *result)
{
    result->refused = false;
    if (getnameinfo(to->ai_addr, to->ai_addrlen, result->address, sizeof result->address,
                    NULL, 0, NI_NUMERICHOST))
        return fail(result, "it has an address that cannot be printed");
    if (config->only_here && !weir_nats_is_loopback(result->address)) {
        result->refused = true;
        return fail(result, "its address is not this machine's own, and needs TLS or "
                            "plaintext = true");
    }
    int fd = socket(to->ai_family, to->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    to->ai_protocol);
    if (fd < 0) return fail(result, strerror(errno));
    int err = reach(config, fd, to, deadline_us);
    bool answers = err ? fail(result, strerror(err))
                       : read_greeting(config, fd, deadline_us, result);
    close(fd);
    return answers;
}

static int64_t share(int64_t deadline_us, unsigned addresses)
{
    int64_t now_us = weir_clock_now_us(), part_us = (deadline_us - now_us) / addresses;
    if (part_us < share_least_us) part_us = share_least_us;
    return weir_earlier(now_us + part_us, deadline_us);
}

bool weir_nats_probe(const weir_nats_probe_config *config, weir_nats_probe_result *result)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
    unsigned left = 0;
    bool answers = false;
    *result = (weir_nats_probe_result){.text = "it has no address"};
    int rc = getaddrinfo(config->server->host, config->server->port, &hints, &list);
    if (rc) return fail(result, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    for (a = list; a; a = a->ai_next)
        left++;
    for (a = list; a && !answers && !atomic_load(config->stop); a = a->ai_next, left--)
        answers = try_address(config, a, share(config->deadline_us, left), result);
    freeaddrinfo(list);
    return answers;
}
