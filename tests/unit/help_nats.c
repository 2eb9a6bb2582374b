#include "tests/unit/help_nats.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { greeting_s = 30 };

static int connect_to(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/*  It may be where PATH does not lead: /usr/sbin.                                   */
static const char *program(void)
{
    static const char *const places[] = {"nats-server", "/usr/sbin/nats-server", NULL};
    for (int i = 0; places[i]; i++)
        if (places[i][0] == '/' ? access(places[i], X_OK) == 0
                                : help_server_is_there(places[i]))
            return places[i];
    return NULL;
}

bool help_nats_is_installed(void)
{
    return program();
}

void help_nats_init(help_nats *self, const char *settings)
{
    *self = (help_nats){0};
    snprintf(self->folder, sizeof self->folder, "/tmp/test_nats.XXXXXX");
    if (!mkdtemp(self->folder)) fail_msg("no folder: %s", strerror(errno));
    snprintf(self->settings, sizeof self->settings, "%s", settings ? settings : "");
    self->port = help_server_port();
}

static void write_configuration(const help_nats *self, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) fail_msg("%s: %s", path, strerror(errno));
    fprintf(file, "listen: \"127.0.0.1:%u\"\njetstream { store_dir: \"%s/js\" }\n%s\n",
            self->port, self->folder, self->settings);
    fclose(file);
}

static bool greets(void *arg)
{
    help_nats *self = arg;
    char text[5];
    int fd = connect_to(self->port);
    if (fd < 0) return false;
    struct timeval limit = {.tv_sec = greeting_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool does = recv(fd, text, sizeof text, MSG_WAITALL) == sizeof text &&
                memcmp(text, "INFO ", 5) == 0;
    close(fd);
    return does;
}

void help_nats_start(help_nats *self)
{
    char path[96], log[96];
    snprintf(path, sizeof path, "%s/conf", self->folder);
    snprintf(log, sizeof log, "%s/log", self->folder);
    write_configuration(self, path);
    const char *argv[] = {program(), "-c", path, NULL};
    if (!self->server)
        self->server = help_server_start(argv, log);
    else if (!help_server_again(self->server))
        fail_msg("nats-server cannot be started again");
    if (!self->server || !help_server_wait(self->server, greets, self))
        fail_msg("nats-server does not start");
}

void help_nats_kill(help_nats *self)
{
    if (self->server) help_server_kill(self->server);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

void help_nats_end(help_nats *self)
{
    help_server_destroy(&self->server);
    if (self->folder[0]) nftw(self->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    self->folder[0] = '\0';
}

uint64_t help_nats_greeting(const help_nats *self)
{
    uint64_t size = 0;
    char byte = 0;
    int fd = connect_to(self->port);
    while (byte != '\n' && recv(fd, &byte, 1, 0) == 1)
        size++;
    close(fd);
    return size;
}

const char *help_nats_url(uint16_t port, const char *credentials, char url[128])
{
    snprintf(url, 128, "nats://%s%s127.0.0.1:%u", credentials ? credentials : "",
             credentials ? "@" : "", port);
    return url;
}
