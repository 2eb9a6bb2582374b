/*  redis_url: which server a store of Redis goes to, and as whom.

        redis://[user[:password]@]host[:port][/db]        an IPv6 address in brackets
        unix://[user[:password]@]/path

    User and password may have %XX for bytes that mean something here.              */
#pragma once
#include "runtime/err.h"

typedef struct {
    char *host;            // or the path of a unix socket
    uint16_t port;         // 0: of a unix socket
    uint32_t db;           // number
    char *user, *password; // NULL: none
    char shown[256];       // the url as it may be told: the password is ***
} weir_redis_url;

/*  WEIR_EINVAL with a report whose where is "url" and which does not repeat the text,
    since a part of it may be a password.                                           */
weir_err weir_redis_url_parse(weir_redis_url *self, const char *text,
                              weir_report *report);

/*  The same user at another server.                                                */
void weir_redis_url_at(weir_redis_url *self, const weir_redis_url *from, const char *host,
                       uint16_t port);

/*  Frees the texts; zeroed is empty.                                               */
void weir_redis_url_fini(weir_redis_url *self);

/*  What is sent there does not leave this host: a unix socket, a loopback address or
    localhost. Other names are not looked up.                                       */
bool weir_redis_url_is_local(const weir_redis_url *self);

/*  A copy of what a server said, the caller's, in which *** stands for the password and
    what it repeats of a command that it does not know is left out.                 */
char *weir_redis_url_hide(const weir_redis_url *self, const char *text);
/*  The same behind the server's name.                                              */
char *weir_redis_url_quote(const weir_redis_url *self, const char *text);
