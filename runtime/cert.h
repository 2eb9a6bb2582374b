/*  cert: certificates, and what their owners may do.

    A certificate is a file in the format of CZMQ's zcert (ZPL):

        metadata
            name = "web-1"
            roles = "produce,consume"
            expires = "2027-01-31"
        curve
            public-key = "40 characters of Z85"
            secret-key = "only in the owner's own file"

    Indentation is by four spaces; what is not named here is passed over.       */
#pragma once
#include "runtime/buffer.h"
#include "runtime/err.h"

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

/*  Lists: "produce,consume"; "none" or "" for 0. False: a word is no role, and is
    copied to `unknown`.                                                          */
#define WEIR_ROLES_TEXT_MAX 64 // bytes with the final 0
void weir_roles_print(unsigned roles, char text[WEIR_ROLES_TEXT_MAX]);
bool weir_roles_parse(unsigned *roles, const char *text, char unknown[32]);

#define WEIR_PEER_NAME_MAX 64 // bytes with the final 0; [A-Za-z0-9_-]{1,63}
#define WEIR_KEY_MAX 41       // a key as Z85, with the final 0

bool weir_peer_name_is_good(const char *name);

typedef struct {
    char name[WEIR_PEER_NAME_MAX]; // "" when the file names nobody
    char public_key[WEIR_KEY_MAX];
    char secret_key[WEIR_KEY_MAX]; // "" in a .pub
    unsigned roles;
    int64_t expires_ms; // from then on it is worth nothing; 0: never
} weir_cert;

/*  An instant as it is written in a certificate: the beginning of a day,
    "2027-01-31", or "2027-01-31T12:00:00Z"; both UTC, from the year 2000 on.       */
#define WEIR_EXPIRY_TEXT_MAX 32
void weir_expiry_print(int64_t expires_ms, char text[WEIR_EXPIRY_TEXT_MAX]);
bool weir_expiry_parse(int64_t *expires_ms, const char *text);

/*  Makes a new pair of keys; the name is copied.                                  */
void weir_cert_make(weir_cert *self, const char *name);

/*  Overwrites it, so that no secret stays in memory.                              */
void weir_cert_wipe(weir_cert *self);

/*  The text of a file. `where` (a path) is what reports name. Nothing is allocated.
    WEIR_EMALFORMED; then *self is wiped.                                          */
weir_err weir_cert_parse(weir_cert *self, const char *text, size_t size,
                         const char *where, weir_report *report);

/*  Reads one file. WEIR_EREFUSED: a secret that others may read, or a file that
    everybody may write; WEIR_EMALFORMED, WEIR_ETOOBIG (above 64 KB), WEIR_ENOTFOUND,
    WEIR_ESYS with errno. The report names file and cause, and what to do.         */
weir_err weir_cert_read(weir_cert *self, const char *path, weir_report *report);

/*  Writes it anew by rename, 0600 with a secret and else 0644. WEIR_ESYS.         */
weir_err weir_cert_write(const weir_cert *self, const char *path, weir_report *report);

/*  The text of its file; gives the size. It holds the secret, if there is one.      */
#define WEIR_CERT_TEXT_MAX 1024
size_t weir_cert_print(const weir_cert *self, char text[WEIR_CERT_TEXT_MAX]);
