/*  secrets: what `secret "name"` gives: the text of a file in the secrets folder, without
    one newline at its end. The folder is the first of these that is named:

        security { secrets = "FOLDER" }     relative to where weir was started
        $CREDENTIALS_DIRECTORY              systemd's LoadCredential=
        weir-secrets                        beside the topology file

    A file is read once, for the plan; workers get the same text. What was read is never
    told (runtime/redact.h). One thread fills it; later any thread may look.     */
#pragma once
#include <stddef.h>
#include "runtime/err.h"

#define WEIR_SECRET_MAX 65536 // bytes of a file

typedef struct {
    char *name, *text; // owned
    size_t size;
} weir_secret;

typedef struct {
    weir_secret **items; // owned
    size_t count;
    char *folder;   // owned; NULL: by default
    bool optional;  // what is missing is no error, but has no text
    int asked_line; // the first line that asked for one; 0: none yet
} weir_secrets;

/*  Reads it, once. beside: the folder of the topology file. The report is a sentence that
    names the path; the secret lives as long as the list. *secret is NULL without an error
    when it may be missing, and is.                                              */
weir_err weir_secrets_read(weir_secrets *self, const weir_secret **secret,
                           const char *name, const char *beside, weir_report *report);

/*  One that was read; NULL: it was not.                                        */
const weir_secret *weir_secrets_find(const weir_secrets *self, const char *name);

/*  Overwrites and frees all.                                                   */
void weir_secrets_fini(weir_secrets *self);
