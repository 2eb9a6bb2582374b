/*  realm: who this node is and whom it lets in; the one place of CURVE and ZAP.

    A realm has a libzmq context of its own, in which every socket that leaves the
    process lives, and in it the one ZAP handler, a thread. So a host's context,
    zauth and inproc endpoints stay untouched, and two realms in one process do not
    know each other.

        keys/
            self.key            own certificate with its secret, 0600
            self.pub            own certificate, to be given to others
            peers/NAME.pub      the certificates of others: whom we let in, with
                                what roles and until when; whom we connect to
            refused.json        who was refused lately, for `weir keys doctor`

    Who is not in peers/, has not the role that a socket asks for, or whose time is
    over is refused: it fails closed. peers/ is read again when it changes; a new
    self.key takes a restart.                                                       */
#pragma once
#include "runtime/refusals.h"
#include "runtime/roster.h"

typedef struct weir_realm weir_realm;

/*  keys: the folder; NULL: no identity, the realm carries ipc and plaintext only.
    Reads it, starts the ZAP thread. Errors with a report: no such folder, a secret
    that others may read, a folder that everybody may write, a certificate that is none.
    What is wrong in peers/ is logged and keeps nobody else out.                  */
weir_err weir_realm_new(weir_realm **self_p, const char *keys, weir_report *report);

/*  After all its sockets are closed. Blocks until they have lingered. NULL is accepted.
 */
void weir_realm_destroy(weir_realm **self_p);

/*  The libzmq context for sockets that leave the process. Any thread.            */
void *weir_realm_context(const weir_realm *self);

/*  The name in the own certificate; NULL without identity.                       */
const char *weir_realm_name(const weir_realm *self);

/*  Makes a libzmq socket a CURVE server that lets in who has the role, or a CURVE
    client of the node of that name. Before bind or connect. A message from a peer of
    a server then bears the peer's name and its key (Z85): zmq_msg_gets (&msg, "User-Id"),
    "Weir-Key". Without CURVE a peer can set both to what it likes.
    WEIR_ENOTFOUND: without identity, or no certificate of that name; WEIR_EREFUSED: its
    time is over; the report says what to do.                                     */
weir_err weir_realm_serve(weir_realm *self, void *socket, weir_role role,
                          weir_report *report);
weir_err weir_realm_join(weir_realm *self, void *socket, const char *server,
                         weir_report *report);

/*  Whether the node of that name may still do this; role 0: whether we know it still
    (whom we connect to needs no role). Any thread.                               */
bool weir_realm_allows(weir_realm *self, const char *name, weir_role role);

/*  The same for a connection that was made with that key: false, too, when the node has
    another key by now. A key of NULL is any.                                     */
bool weir_realm_allows_key(weir_realm *self, const char *name, const char *key,
                           weir_role role);

/*  A number that grows whenever somebody has lost a certificate, a role, his key or his
    time. Whoever keeps connections looks at it, and asks weir_realm_allows_key about
    each of them. watch: an eventfd is written to at the same time, until unwatch returns.
    Any thread.                                                                   */
uint64_t weir_realm_revocations(const weir_realm *self);
void weir_realm_watch(weir_realm *self, int eventfd);
void weir_realm_unwatch(weir_realm *self, int eventfd);

/*  Copies at most max of the last ones that were refused, newest first, and gives the
    number. Any thread.                                                           */
size_t weir_realm_refusals(weir_realm *self, weir_refusal *list, size_t max);
