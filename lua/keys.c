/*  keys: `weir keys init | show | allow | revoke`.                             */
#include "lua/keys.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/nearest.h"

/* --- Folder ------------------------------------------------------------------------ */

const char *weir_keys_folder(const weir_command_line *line)
{
    const char *folder = weir_line_flag(line, "--keys");
    return folder ? folder : "weir-keys";
}

void weir_keys_path(char path[PATH_MAX], const char *folder, const char *file)
{
    snprintf(path, PATH_MAX, "%s/%s", folder, file);
}

static void peer_path(char path[PATH_MAX], const char *folder, const char *name)
{
    snprintf(path, PATH_MAX, "%s/peers/%s.pub", folder, name);
}

void weir_keys_short(const char *public_key, char text[WEIR_KEY_SHORT_MAX])
{
    uint8_t key[32] = {0}, hash[crypto_generichash_BYTES];
    zmq_z85_decode(key, public_key);
    crypto_generichash(hash, sizeof hash, key, sizeof key, NULL, 0);
    for (int i = 0; i < 4; i++)
        snprintf(text + 5 * i, 6, "%02x%02x%s", hash[2 * i], hash[2 * i + 1],
                 i < 3 ? "-" : "");
}

int weir_keys_fail(const weir_report *report, int code)
{
    fprintf(stderr, "weir: %s%s%s\n", report->where, *report->where ? ": " : "",
            report->text);
    return code;
}

static int fail(const char *where, const char *text, int code)
{
    fprintf(stderr, "weir: %s%s%s\n", where, *where ? ": " : "", text);
    return code;
}

bool weir_keys_own(weir_cert *self, const char *folder, weir_report *report)
{
    char path[PATH_MAX];
    weir_keys_path(path, folder, "self.key");
    weir_err err = weir_cert_read(self, path, report);
    sodium_memzero(self->secret_key, sizeof self->secret_key);
    if (err == WEIR_ENOTFOUND)
        weir_report_set(report, err, path,
                        "there are no keys: make them by `weir keys init NAME`");
    return !err;
}

static bool make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return true;
    fail(path, strerror(errno), 0);
    return false;
}

/* --- init -------------------------------------------------------------------------- */

/*  The secret comes last: a folder that has it is whole.                      */
static bool write_pair(const weir_cert *cert, const char *folder, bool with_secret)
{
    char path[PATH_MAX];
    weir_report report;
    weir_cert open = *cert;
    sodium_memzero(open.secret_key, sizeof open.secret_key);
    weir_keys_path(path, folder, "self.pub");
    weir_err err = weir_cert_write(&open, path, &report);
    weir_keys_path(path, folder, "self.key");
    if (!err && with_secret) err = weir_cert_write(cert, path, &report);
    if (err) weir_keys_fail(&report, 0);
    return !err;
}

/*  There is a self.key: it stays. A self.pub that got lost is made again.     */
static int keep_keys(const char *folder, const char *name)
{
    char path[PATH_MAX];
    weir_cert own;
    weir_report report;
    weir_keys_path(path, folder, "self.pub");
    if (access(path, F_OK) == 0 || !weir_keys_own(&own, folder, &report) ||
        strcmp(own.name, name)) {
        weir_keys_path(path, folder, "self.key");
        return fail(path, "there are keys already; nothing was changed",
                    WEIR_EXIT_FAILED);
    }
    if (!write_pair(&own, folder, false)) return WEIR_EXIT_FAILED;
    printf("%s was missing and is there again\n", path);
    return WEIR_EXIT_OK;
}

int weir_cmd_keys_init(const weir_command_line *line)
{
    char path[PATH_MAX];
    weir_cert cert;
    const char *folder = weir_keys_folder(line), *name = weir_line_operand(line, 0);
    if (!weir_peer_name_is_good(name))
        return fail(name, "a name has 1 to 63 letters, digits, '-' or '_'",
                    WEIR_EXIT_CHECK);
    weir_keys_path(path, folder, "self.key");
    if (access(path, F_OK) == 0) return keep_keys(folder, name);
    weir_keys_path(path, folder, "peers");
    if (!make_folder(folder) || !make_folder(path)) return WEIR_EXIT_FAILED;
    weir_cert_make(&cert, name);
    bool good = write_pair(&cert, folder, true);
    sodium_memzero(cert.secret_key, sizeof cert.secret_key);
    if (!good) return WEIR_EXIT_FAILED;
    printf("made the keys of '%s' in %s\n"
           "give %s/self.pub to whom it shall talk to, where it is trusted by\n"
           "  weir keys allow self.pub --role ROLES\n",
           name, folder, folder);
    return WEIR_EXIT_OK;
}

/* --- show -------------------------------------------------------------------------- */

static void show_peer(const weir_cert *cert, int64_t now_ms)
{
    char roles[WEIR_ROLES_TEXT_MAX], expiry[WEIR_EXPIRY_TEXT_MAX] = "forever";
    char brief[WEIR_KEY_SHORT_MAX];
    weir_roles_print(cert->roles, roles);
    weir_keys_short(cert->public_key, brief);
    if (cert->expires_ms) weir_expiry_print(cert->expires_ms, expiry);
    printf("%-20s %-28s %-20s %s%s\n", cert->name, roles, expiry, brief,
           weir_cert_is_valid(cert, now_ms) ? "" : "  (its time is over)");
}

static void show_text(const weir_cert *own, const weir_roster *peers, const char *folder)
{
    char brief[WEIR_KEY_SHORT_MAX];
    weir_keys_short(own->public_key, brief);
    printf("name        %s\npublic key  %s\nshort       %s\ngive away   %s/self.pub\n",
           own->name, own->public_key, brief, folder);
    if (peers->count)
        printf("\n%-20s %-28s %-20s %s\n", "peer", "roles", "until", "short");
    for (size_t i = 0; i < peers->count; i++)
        show_peer(&peers->certs[i], peers->read_ms);
}

static void put_roles(weir_buffer *out, unsigned roles)
{
    bool first = true;
    weir_buffer_put_text(out, ",\"roles\":[");
    for (unsigned role = 1; role <= WEIR_ROLE_CONTROL; role <<= 1) {
        if (!(roles & role)) continue;
        weir_buffer_printf(out, "%s\"%s\"", first ? "" : ",",
                           weir_role_name((weir_role)role));
        first = false;
    }
    weir_buffer_put_text(out, "]");
}

static void put_identity(weir_buffer *out, const weir_cert *cert)
{
    char brief[WEIR_KEY_SHORT_MAX];
    weir_keys_short(cert->public_key, brief);
    weir_buffer_printf(out, "{\"name\":\"%s\",\"public_key\":", cert->name);
    weir_json_put_string(out, cert->public_key, strlen(cert->public_key));
    weir_buffer_printf(out, ",\"short\":\"%s\"", brief);
}

static void put_peer(weir_buffer *out, const weir_cert *cert, int64_t now_ms)
{
    char expiry[WEIR_EXPIRY_TEXT_MAX] = "";
    put_identity(out, cert);
    put_roles(out, cert->roles);
    if (cert->expires_ms) weir_expiry_print(cert->expires_ms, expiry);
    weir_buffer_printf(out, ",\"expires\":%s%s%s,\"valid\":%s}", *expiry ? "\"" : "null",
                       expiry, *expiry ? "\"" : "",
                       weir_cert_is_valid(cert, now_ms) ? "true" : "false");
}

static void show_json(const weir_cert *own, const weir_roster *peers, const char *folder)
{
    char path[PATH_MAX];
    weir_buffer out = {0};
    weir_keys_path(path, folder, "self.pub");
    put_identity(&out, own);
    weir_buffer_put_text(&out, ",\"file\":");
    if (weir_json_put_string(&out, path, strlen(path)))
        weir_buffer_put_text(&out, "null");
    weir_buffer_put_text(&out, ",\"peers\":[");
    for (size_t i = 0; i < peers->count; i++) {
        if (i) weir_buffer_put_text(&out, ",");
        put_peer(&out, &peers->certs[i], peers->read_ms);
    }
    printf("%.*s]}\n", (int)out.size, (char *)out.data);
    weir_buffer_fini(&out);
}

static bool read_peers(weir_roster *peers, const char *folder)
{
    char path[PATH_MAX];
    weir_report report;
    weir_keys_path(path, folder, "peers");
    if (weir_roster_read(peers, path, &report) == WEIR_OK) return true;
    weir_keys_fail(&report, 0);
    return false;
}

int weir_cmd_keys_show(const weir_command_line *line)
{
    const char *folder = weir_keys_folder(line);
    weir_cert own;
    weir_roster peers;
    weir_report report;
    if (!weir_keys_own(&own, folder, &report))
        return weir_keys_fail(&report, WEIR_EXIT_FAILED);
    if (!read_peers(&peers, folder)) return WEIR_EXIT_FAILED;
    if (weir_line_flag(line, "--json"))
        show_json(&own, &peers, folder);
    else
        show_text(&own, &peers, folder);
    weir_print_reports(&peers.problems, false);
    weir_roster_fini(&peers);
    return WEIR_EXIT_OK;
}

/* --- allow ------------------------------------------------------------------------- */

/*  Modes do not matter here, since the file is copied; a secret does.         */
static bool read_foreign(weir_cert *cert, const char *path)
{
    char *text;
    size_t size;
    unsigned mode;
    weir_report report;
    weir_err err = weir_read_file(path, 64 << 10, &text, &size, &mode);
    if (err)
        return fail(path, err == WEIR_ESYS ? strerror(errno) : weir_err_name(err), 0);
    err = weir_cert_parse(cert, text, size, path, &report);
    sodium_memzero(text, size);
    free(text);
    if (err) return weir_keys_fail(&report, 0);
    bool secret = *cert->secret_key;
    sodium_memzero(cert->secret_key, sizeof cert->secret_key);
    if (secret)
        fail(path,
             "it holds a secret, which belongs to its owner alone; ask for his self.pub, "
             "and for new keys if this file has left his machine",
             0);
    return !secret;
}

/*  What the flags say goes into the certificate. 0, or the exit code.         */
static int read_flags(weir_cert *cert, const weir_command_line *line)
{
    char unknown[32];
    const char *roles = weir_line_flag(line, "--role"),
               *expires = weir_line_flag(line, "--expires"),
               *name = weir_line_flag(line, "--as");
    cert->expires_ms = 0;
    if (!roles || !*roles)
        return fail("--role", "which ones? produce,consume,peer,control, or none",
                    WEIR_EXIT_CHECK);
    if (!weir_roles_parse(&cert->roles, roles, unknown))
        return fail(unknown, "no such role; there are produce, consume, peer, control",
                    WEIR_EXIT_CHECK);
    if (expires && !weir_expiry_parse(&cert->expires_ms, expires))
        return fail(expires, "expected a time like 2027-01-31 or 2027-01-31T12:00:00Z",
                    WEIR_EXIT_CHECK);
    if (!weir_cert_is_valid(cert, weir_clock_wall_ms()))
        return fail(expires, "this time is over", WEIR_EXIT_CHECK);
    if (!name) name = cert->name;
    if (!*name)
        return fail("--as", "the certificate has no name: give it one", WEIR_EXIT_CHECK);
    if (!weir_peer_name_is_good(name))
        return fail(name, "a name has 1 to 63 letters, digits, '-' or '_'",
                    WEIR_EXIT_CHECK);
    if (name != cert->name) snprintf(cert->name, sizeof cert->name, "%s", name);
    return 0;
}

/*  Neither two keys of one name nor two names of one key.                     */
static bool fits(const weir_cert *cert, const weir_roster *peers)
{
    char text[256];
    const weir_cert *namesake = weir_roster_by_name(peers, cert->name),
                    *twin = weir_roster_by_key(peers, cert->public_key);
    if (namesake && strcmp(namesake->public_key, cert->public_key)) {
        snprintf(text, sizeof text,
                 "it is known with another key; first: weir keys revoke %s", cert->name);
        return fail(cert->name, text, 0);
    }
    if (twin && strcmp(twin->name, cert->name)) {
        snprintf(text, sizeof text,
                 "its key is known as '%s'; first: weir keys revoke %s", twin->name,
                 twin->name);
        return fail(cert->name, text, 0);
    }
    return true;
}

static int store(const weir_cert *cert, const char *folder)
{
    char path[PATH_MAX], roles[WEIR_ROLES_TEXT_MAX], brief[WEIR_KEY_SHORT_MAX];
    weir_report report;
    weir_keys_path(path, folder, "peers");
    if (!make_folder(path)) return WEIR_EXIT_FAILED;
    peer_path(path, folder, cert->name);
    if (weir_cert_write(cert, path, &report))
        return weir_keys_fail(&report, WEIR_EXIT_FAILED);
    weir_roles_print(cert->roles, roles);
    weir_keys_short(cert->public_key, brief);
    printf("'%s' is trusted, roles: %s, key: %s\n", cert->name, roles, brief);
    return WEIR_EXIT_OK;
}

int weir_cmd_keys_allow(const weir_command_line *line)
{
    const char *folder = weir_keys_folder(line), *file = weir_line_operand(line, 0);
    weir_cert own, cert;
    weir_roster peers;
    weir_report report;
    if (!weir_keys_own(&own, folder, &report))
        return weir_keys_fail(&report, WEIR_EXIT_FAILED);
    if (!read_foreign(&cert, file)) return WEIR_EXIT_FAILED;
    int code = read_flags(&cert, line);
    if (code) return code;
    if (!read_peers(&peers, folder)) return WEIR_EXIT_FAILED;
    code = fits(&cert, &peers) ? store(&cert, folder) : WEIR_EXIT_FAILED;
    if (code == WEIR_EXIT_OK && strcmp(own.public_key, cert.public_key) == 0)
        fail(file,
             "this is our own certificate: right if two weirs of this host share these "
             "keys; else weir keys revoke it, and allow the other side's self.pub",
             0);
    weir_roster_fini(&peers);
    return code;
}

/* --- revoke ------------------------------------------------------------------------ */

static int not_there(const char *folder, const char *name)
{
    const char *names[64], *near;
    size_t count = 0;
    weir_roster peers;
    if (!read_peers(&peers, folder)) return WEIR_EXIT_FAILED;
    for (; count < peers.count && count < 64; count++)
        names[count] = peers.certs[count].name;
    near = weir_nearest(name, names, count);
    fprintf(stderr, "weir: %s: there is no peer '%s'%s%s%s\n", folder, name,
            near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    weir_roster_fini(&peers);
    return WEIR_EXIT_FAILED;
}

int weir_cmd_keys_revoke(const weir_command_line *line)
{
    char path[PATH_MAX];
    const char *folder = weir_keys_folder(line), *name = weir_line_operand(line, 0);
    if (!weir_peer_name_is_good(name))
        return fail(name, "a name has 1 to 63 letters, digits, '-' or '_'",
                    WEIR_EXIT_CHECK);
    peer_path(path, folder, name);
    bool gone = unlink(path) == 0;
    if (!gone && errno == ENOENT) return not_there(folder, name);
    if (!gone || weir_sync_folder(path))
        return fail(path, strerror(errno), WEIR_EXIT_FAILED);
    printf("'%s' is trusted no more; a running weir ends its connections\n", name);
    return WEIR_EXIT_OK;
}
