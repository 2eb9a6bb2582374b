/*  refusals: who was refused lately and why, bounded whatever a flood of strangers
    does; and the same as a file, so that `weir keys doctor` can tell without asking a
    running process. One thread, or a lock around it.                               */
#pragma once
#include "runtime/cert.h"

typedef struct {
    int64_t wall_ms;               // the last time
    uint64_t count;                // how often, with the same cause
    char address[64];              // "10.0.0.7"
    char key[WEIR_KEY_MAX];        // its public key, Z85
    char name[WEIR_PEER_NAME_MAX]; // "" when nobody knows the key
    char role[16];                 // that it would have needed
    char cause[160];               // a sentence
} weir_refusal;

#define WEIR_REFUSALS_MAX 64

typedef struct {
    weir_refusal items[WEIR_REFUSALS_MAX]; // newest first
    size_t count;
} weir_refusals;

/*  Notes one (wall_ms and count are set here) and gives its place. The same address,
    key, role and cause are one refusal. An address whose keys nobody knows holds at
    most a quarter of the places. *is_new: it was not there.                         */
const weir_refusal *weir_refusals_add(weir_refusals *self, const weir_refusal *refusal,
                                      bool *is_new);

/*  The file, replaced as a whole; and back. Reading: WEIR_ENOTFOUND, WEIR_EMALFORMED,
    WEIR_ETOOBIG, WEIR_ESYS; then *self is empty.                                    */
weir_err weir_refusals_write(const weir_refusals *self, const char *path);
weir_err weir_refusals_read(weir_refusals *self, const char *path);

/*  The object of one in JSON.                                                       */
void weir_refusal_put_json(const weir_refusal *self, weir_buffer *out);
