/*  keys: what the commands of `weir keys` share: a folder of keys, as the realm reads it.
 */
#pragma once
#include <limits.h>
#include "lua/command.h"
#include "runtime/roster.h"

/*  --keys, or weir-keys.                                                        */
const char *weir_keys_folder(const weir_command_line *line);
void weir_keys_path(char path[PATH_MAX], const char *folder, const char *file);

/*  A short form of a public key, for comparing by eye or on the telephone: 16 hexadecimal
    digits of its hash, "1f2e-3d4c-5b6a-7988".                                   */
#define WEIR_KEY_SHORT_MAX 20
void weir_keys_short(const char *public_key, char text[WEIR_KEY_SHORT_MAX]);

/*  The own certificate without its secret. False: the report says why not.       */
bool weir_keys_own(weir_cert *self, const char *folder, weir_report *report);

/*  Prints "weir: where: text" to stderr, gives the code.                         */
int weir_keys_fail(const weir_report *report, int code);
