/*  doctor: `weir keys doctor`: what is wrong with keys and certificates, who was refused
    here and why, and what another node says to our key. Each finding is a sentence that
    says what to do.                                                            */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include "lua/keys.h"
#include "lua/probe.h"
#include "runtime/clock.h"
#include "runtime/refusals.h"

static const int64_t day_ms = 86400000;
static const int64_t soon_days = 7;

typedef struct {
    const char *folder;
    int64_t now_ms;
    weir_cert own; // with its secret; wiped at the end
    bool has_own;
    weir_roster peers;
    weir_reports found; // to be mended
    weir_reports notes; // worth knowing
} doctor;

static void find(doctor *self, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void find(doctor *self, const char *file, const char *format, ...)
{
    char path[PATH_MAX], text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    weir_keys_path(path, self->folder, file);
    weir_reports_add(&self->found, WEIR_EINVAL, *file ? path : self->folder, "%s", text);
}

static void note(doctor *self, const char *where, const char *text)
{
    weir_reports_add(&self->notes, WEIR_OK, where, "%s", text);
}

/* --- Files ------------------------------------------------------------------------- */

/*  Who may write a folder of certificates decides who is trusted.             */
static bool check_folder(doctor *self, const char *file, const char *remedy)
{
    char path[PATH_MAX];
    struct stat st;
    weir_keys_path(path, self->folder, file);
    if (stat(path, &st)) {
        find(self, file, "%s: %s", strerror(errno), remedy);
        return false;
    }
    if (st.st_mode & 022)
        find(self, file,
             "others may write it, and so decide who is trusted: chmod 700 %s", path);
    if (st.st_mtime > self->now_ms / 1000 + day_ms / 1000)
        find(self, file,
             "it was changed in the future: the clock of this machine is slow, "
             "and times of expiry mean nothing; set it");
    return true;
}

static void check_own(doctor *self)
{
    char path[PATH_MAX];
    weir_report report;
    weir_keys_path(path, self->folder, "self.key");
    weir_err err = weir_cert_read(&self->own, path, &report);
    self->has_own = !err && *self->own.name && *self->own.secret_key;
    if (err == WEIR_ENOTFOUND)
        find(self, "self.key", "it is missing: weir keys init NAME --keys %s",
             self->folder);
    else if (err)
        find(self, "self.key", "%s", report.text);
    else if (!self->has_own)
        find(self, "self.key",
             "there is no %s in it: move it away and make new keys by "
             "`weir keys init NAME`",
             *self->own.name ? "secret" : "name");
}

static void check_public(doctor *self)
{
    char path[PATH_MAX];
    weir_cert cert;
    weir_report report;
    if (!self->has_own) return;
    weir_keys_path(path, self->folder, "self.pub");
    weir_err err = weir_cert_read(&cert, path, &report);
    if (err == WEIR_ENOTFOUND)
        find(self, "self.pub", "it is missing: weir keys init %s makes it again",
             self->own.name);
    else if (err)
        find(self, "self.pub", "%s", report.text);
    else if (*cert.secret_key)
        find(self, "self.pub",
             "it holds the secret: delete it, and weir keys init %s "
             "makes it again; if it was given away, make new keys",
             self->own.name);
    else if (strcmp(cert.public_key, self->own.public_key) ||
             strcmp(cert.name, self->own.name))
        find(self, "self.pub",
             "it is not of self.key: delete it, and weir keys init %s "
             "makes it again",
             self->own.name);
    weir_cert_wipe(&cert);
}

static void check_peer(doctor *self, const weir_cert *cert)
{
    char file[128], text[256], expiry[WEIR_EXPIRY_TEXT_MAX];
    snprintf(file, sizeof file, "peers/%s.pub", cert->name);
    if (cert->expires_ms) weir_expiry_print(cert->expires_ms, expiry);
    int64_t left_ms = cert->expires_ms - self->now_ms;
    if (cert->expires_ms && left_ms <= 0)
        find(self, file,
             "its time was over at %s: weir keys allow it anew with a later "
             "--expires, or weir keys revoke %s",
             expiry, cert->name);
    else if (cert->expires_ms && left_ms < soon_days * day_ms)
        find(self, file,
             "its time is over at %s: weir keys allow it anew with a later "
             "--expires",
             expiry);
    if (cert->roles) return;
    snprintf(text, sizeof text,
             "'%s' has no role: we may connect to it, it may not to us", cert->name);
    note(self, "", text);
}

static void check_peers(doctor *self)
{
    char path[PATH_MAX];
    weir_report report;
    if (!check_folder(self, "peers", "nobody is trusted; weir keys allow makes it"))
        return;
    weir_keys_path(path, self->folder, "peers");
    if (weir_roster_read(&self->peers, path, &report))
        find(self, "peers", "%s", report.text);
    for (size_t i = 0; i < self->peers.problems.count; i++) {
        const weir_report *problem = &self->peers.problems.items[i];
        weir_reports_add(&self->found, WEIR_EREFUSED, problem->where, "not trusted: %s",
                         problem->text);
    }
    for (size_t i = 0; i < self->peers.count; i++)
        check_peer(self, &self->peers.certs[i]);
    if (!self->peers.count)
        note(self, "", "nobody is trusted yet: weir keys allow FILE --role ROLES");
}

static void check_clock(doctor *self)
{
    int64_t earliest_ms;
    weir_expiry_parse(&earliest_ms, "2024-01-01");
    if (self->now_ms < earliest_ms)
        find(self, "",
             "the clock of this machine is years slow, and times of expiry mean "
             "nothing: set it");
}

/* --- Who was refused here ---------------------------------------------------------- */

static bool is_settled(const doctor *self, const weir_refusal *refusal)
{
    const weir_cert *cert = weir_roster_by_key(&self->peers, refusal->key);
    unsigned role = weir_role_of(refusal->role);
    return cert && weir_cert_is_valid(cert, self->now_ms) && role && cert->roles & role;
}

/*  Whoever is known by now is told of as peers/ has him.                      */
static void put_cause(const doctor *self, const weir_refusal *r, const weir_cert *cert,
                      char text[256])
{
    char roles[WEIR_ROLES_TEXT_MAX];
    if (!cert) {
        snprintf(text, 256, "%s", r->cause);
    } else if (!weir_cert_is_valid(cert, self->now_ms)) {
        snprintf(text, 256, "its time is over");
    } else {
        weir_roles_print(cert->roles, roles);
        snprintf(text, 256, "it has not the role %s; its roles: %s", r->role, roles);
    }
}

static void tell_refusal(doctor *self, const weir_refusal *r)
{
    char when[32], cause[256], remedy[256];
    const weir_cert *cert = weir_roster_by_key(&self->peers, r->key);
    const char *name = cert ? cert->name : r->name;
    put_cause(self, r, cert, cause);
    time_t seconds = (time_t)(r->wall_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (*name)
        snprintf(remedy, sizeof remedy, "weir keys allow %.64s/peers/%s.pub --role %s",
                 self->folder, name, r->role);
    else
        snprintf(remedy, sizeof remedy, "weir keys allow its self.pub --role %s",
                 r->role);
    find(self, "refused.json",
         "%s (%s%s%s) was refused %" PRIu64
         " time%s, last at %s, asking for role %s: %s; "
         "if it shall: %s",
         r->address, *name ? name : "a stranger", *r->key ? ", key " : "", r->key,
         r->count, r->count == 1 ? "" : "s", when, r->role, cause, remedy);
}

static void check_refusals(doctor *self)
{
    char path[PATH_MAX];
    weir_refusals *list = calloc(1, sizeof *list);
    if (!list) abort();
    weir_keys_path(path, self->folder, "refused.json");
    weir_err err = weir_refusals_read(list, path);
    if (err && err != WEIR_ENOTFOUND)
        find(self, "refused.json", "it cannot be read (%s): delete it",
             weir_err_name(err));
    for (size_t i = 0; i < list->count; i++)
        if (!is_settled(self, &list->items[i])) tell_refusal(self, &list->items[i]);
    free(list);
}

/* --- The other side ---------------------------------------------------------------- */

/*  Whom the user means; a single peer needs no naming. NULL: not known.        */
static const weir_cert *find_server(doctor *self, const char *name)
{
    if (!name) return self->peers.count == 1 ? &self->peers.certs[0] : NULL;
    const weir_cert *cert = weir_roster_by_name(&self->peers, name);
    if (!cert)
        find(self, "peers",
             "there is no certificate of '%s': get its self.pub, and weir "
             "keys allow it with --role none or more",
             name);
    return cert;
}

static void tell_probe(doctor *self, weir_probe_result result, const char *at,
                       const weir_cert *server, const char *detail)
{
    char text[512];
    if (result == WEIR_PROBE_WORKS) {
        snprintf(text, sizeof text, "it works: '%s' takes our key", server->name);
        note(self, at, text);
        return;
    }
    snprintf(text, sizeof text, "%s%s%s%s", weir_probe_text(result), *detail ? " (" : "",
             detail, *detail ? ")" : "");
    weir_reports_add(&self->found, WEIR_EREFUSED, at, "%s", text);
}

static void check_endpoint(doctor *self, const char *endpoint, const char *name)
{
    char detail[128];
    if (!self->has_own) return;
    const weir_cert *server = find_server(self, name);
    if (name && !server) return;
    weir_probe_result result =
        weir_probe(endpoint, &self->own, server ? server->public_key : NULL, detail);
    tell_probe(self, result, endpoint, server, detail);
}

/* --- Command ----------------------------------------------------------------------- */

static void print_text(const doctor *self)
{
    const weir_reports *lists[] = {&self->found, &self->notes};
    for (size_t l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            const weir_report *r = &lists[l]->items[i];
            printf("%s%s%s%s\n", l ? "note: " : "", r->where, *r->where ? ": " : "",
                   r->text);
        }
    if (!self->found.count) printf("nothing is wrong with %s\n", self->folder);
}

int weir_cmd_keys_doctor(const weir_command_line *line)
{
    doctor self = {.folder = weir_keys_folder(line), .now_ms = weir_clock_wall_ms()};
    const char *endpoint = weir_line_operand(line, 0);
    check_clock(&self);
    if (check_folder(&self, "", "make keys by `weir keys init NAME`")) {
        check_own(&self);
        check_public(&self);
        check_peers(&self);
        check_refusals(&self);
        if (endpoint) check_endpoint(&self, endpoint, weir_line_flag(line, "--server"));
    }
    if (weir_line_flag(line, "--json"))
        weir_print_reports(&self.found, true);
    else
        print_text(&self);
    int code = self.found.count ? WEIR_EXIT_FAILED : WEIR_EXIT_OK;
    weir_cert_wipe(&self.own);
    weir_roster_fini(&self.peers);
    weir_reports_fini(&self.found);
    weir_reports_fini(&self.notes);
    return code;
}
