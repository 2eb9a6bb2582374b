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

    Who is not in peers/, has not the role that a socket asks for, or whose time is
    over is refused: it fails closed. The folder is read again when it changes.     */
#pragma once
#include "runtime/err.h"

typedef struct weir_realm weir_realm;

/*  What a certificate's owner may do. A listening socket asks for one of them.   */
typedef enum {
    WEIR_ROLE_PRODUCE = 1, // send records to us
    WEIR_ROLE_CONSUME = 2, // take records from us
    WEIR_ROLE_PEER = 4,    // be a node of our cluster
    WEIR_ROLE_CONTROL = 8, // command us
} weir_role;

/*  "produce", "consume", "peer", "control"; 0 and NULL for what is none.         */
unsigned weir_role_of(const char *name);
const char *weir_role_name(weir_role role);

#define WEIR_PEER_NAME_MAX 64 // bytes with the final 0; [A-Za-z0-9_-]{1,63}

/*  keys: the folder; NULL: no identity, the realm carries ipc and plaintext only.
    Reads it, starts the ZAP thread. Errors with a report: no such folder, a secret
    that others may read, a certificate that is none.                             */
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
    a server then bears the peer's name: zmq_msg_gets (&msg, "User-Id").
    WEIR_ENOTFOUND: without identity, or no certificate of that name; the report
    says what to do.                                                              */
weir_err weir_realm_serve(weir_realm *self, void *socket, weir_role role,
                          weir_report *report);
weir_err weir_realm_join(weir_realm *self, void *socket, const char *server,
                         weir_report *report);

/*  Whether the node of that name may still do this. Any thread.                  */
bool weir_realm_allows(weir_realm *self, const char *name, weir_role role);

/*  A number that grows whenever somebody has lost a certificate, a role or his time.
    Whoever keeps connections looks at it, and asks weir_realm_allows about each of
    them. watch: an eventfd is written to at the same time. Any thread.           */
uint64_t weir_realm_revocations(const weir_realm *self);
void weir_realm_watch(weir_realm *self, int eventfd);
void weir_realm_unwatch(weir_realm *self, int eventfd);

/*  The last ones that were refused, newest first.                                */
typedef struct {
    int64_t wall_ms;               // the last time
    uint64_t count;                // how often, with the same cause
    char address[64];              // "10.0.0.7"
    char key[41];                  // its public key, Z85
    char name[WEIR_PEER_NAME_MAX]; // "" when nobody knows the key
    char role[16];                 // that it would have needed
    char cause[160];               // a sentence
} weir_refusal;

#define WEIR_REFUSALS_MAX 64

/*  Copies at most max of them and gives the number. Any thread.                  */
size_t weir_realm_refusals(weir_realm *self, weir_refusal *list, size_t max);

/*  Certificates as files, for `weir keys` and for tests. A certificate's public key
    is Z85; expires_ms is 0 for never.                                            */
typedef struct {
    char name[WEIR_PEER_NAME_MAX];
    char public_key[41];
    char secret_key[41]; // "" in a .pub
    unsigned roles;
    int64_t expires_ms;
} weir_cert;

/*  Reads one file. WEIR_EREFUSED: a secret that others may read (chmod 600).
    WEIR_EMALFORMED, WEIR_ESYS. The report names file and cause.                  */
weir_err weir_cert_read(weir_cert *self, const char *path, weir_report *report);

/*  Writes it anew by rename, 0600 with a secret and else 0644.                   */
weir_err weir_cert_write(const weir_cert *self, const char *path, weir_report *report);
