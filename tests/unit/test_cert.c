/*  Certificates: our files and those of CZMQ are the same, and what is wrong is named. */
#include "tests/unit/help_folder.h"
#include "runtime/cert.h"
#include "runtime/clock.h"
#include "runtime/refusals.h"
#include <czmq.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define KEY "0?1#t?7o.m]FZ7rMs<FQ=1?GJi=sEM@%4{d:/qmp"

static const char *path_of(const char *file)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

static weir_err parse(weir_cert *cert, const char *text, weir_report *report)
{
    return weir_cert_parse(cert, text, strlen(text), "x.pub", report);
}

/*  Refused with that text in the report; nothing is left in the certificate.  */
static void refuse(const char *text, const char *cause)
{
    weir_cert cert, empty;
    weir_report report;
    memset(&empty, 0, sizeof empty);
    assert_int_equal(parse(&cert, text, &report), WEIR_EMALFORMED);
    assert_string_equal(report.where, "x.pub");
    if (!strstr(report.text, cause)) fail_msg("%s, not: %s", report.text, cause);
    assert_memory_equal(&cert, &empty, sizeof cert);
}

static void assert_same(const weir_cert *a, const weir_cert *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->public_key, b->public_key);
    assert_string_equal(a->secret_key, b->secret_key);
    assert_int_equal(a->roles, b->roles);
    assert_int_equal(a->expires_ms, b->expires_ms);
}

static void what_is_written_reads_the_same(void **state)
{
    (void)state;
    weir_cert cert, back;
    weir_report report;
    struct stat st;
    weir_cert_make(&cert, "web-1");
    cert.roles = WEIR_ROLE_PRODUCE | WEIR_ROLE_CONTROL;
    cert.expires_ms = 1893456000000;
    assert_int_equal(weir_cert_write(&cert, path_of("self.key"), &report), WEIR_OK);
    assert_int_equal(stat(path_of("self.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(weir_cert_read(&back, path_of("self.key"), &report), WEIR_OK);
    assert_same(&cert, &back);
    memset(cert.secret_key, 0, sizeof cert.secret_key);
    cert.expires_ms += 1000;
    assert_int_equal(weir_cert_write(&cert, path_of("self.pub"), &report), WEIR_OK);
    assert_int_equal(stat(path_of("self.pub"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(weir_cert_read(&back, path_of("self.pub"), &report), WEIR_OK);
    assert_same(&cert, &back);
}

static void czmq_reads_ours(void **state)
{
    (void)state;
    weir_cert cert;
    weir_report report;
    weir_cert_make(&cert, "web-1");
    cert.roles = WEIR_ROLE_PRODUCE | WEIR_ROLE_CONSUME;
    cert.expires_ms = 1893456000000;
    assert_int_equal(weir_cert_write(&cert, path_of("self.key"), &report), WEIR_OK);
    zcert_t *other = zcert_load(path_of("self.key"));
    assert_non_null(other);
    assert_string_equal(zcert_public_txt(other), cert.public_key);
    assert_string_equal(zcert_secret_txt(other), cert.secret_key);
    assert_string_equal(zcert_meta(other, "name"), "web-1");
    assert_string_equal(zcert_meta(other, "roles"), "produce,consume");
    assert_string_equal(zcert_meta(other, "expires"), "2030-01-01");
    zcert_destroy(&other);
}

static void we_read_those_of_czmq(void **state)
{
    (void)state;
    weir_cert cert;
    weir_report report;
    zcert_t *other = zcert_new();
    zcert_set_meta(other, "name", "web-1");
    zcert_set_meta(other, "email", "someone@example.org # not a remark");
    zcert_set_meta(other, "roles", "consume, peer");
    zcert_save_public(other, path_of("web-1.pub"));
    assert_int_equal(weir_cert_read(&cert, path_of("web-1.pub"), &report), WEIR_OK);
    assert_string_equal(cert.public_key, zcert_public_txt(other));
    assert_string_equal(cert.secret_key, "");
    assert_string_equal(cert.name, "web-1");
    assert_int_equal(cert.roles, WEIR_ROLE_CONSUME | WEIR_ROLE_PEER);
    zcert_save_secret(other, path_of("secret"));
    assert_int_equal(weir_cert_read(&cert, path_of("secret"), &report), WEIR_OK);
    assert_string_equal(cert.secret_key, zcert_secret_txt(other));
    zcert_destroy(&other);
}

static void a_secret_for_all_to_read_is_refused(void **state)
{
    (void)state;
    weir_cert cert;
    weir_report report;
    weir_cert_make(&cert, "a");
    assert_int_equal(weir_cert_write(&cert, path_of("a"), &report), WEIR_OK);
    chmod(path_of("a"), 0604);
    assert_int_equal(weir_cert_read(&cert, path_of("a"), &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "chmod 600"));
    assert_string_equal(cert.secret_key, "");
    chmod(path_of("a"), 0600);
    assert_int_equal(weir_cert_read(&cert, path_of("a"), &report), WEIR_OK);
    memset(cert.secret_key, 0, sizeof cert.secret_key);
    assert_int_equal(weir_cert_write(&cert, path_of("b"), &report), WEIR_OK);
    chmod(path_of("b"), 0666);
    assert_int_equal(weir_cert_read(&cert, path_of("b"), &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "everybody may write"));
}

static void what_is_no_certificate_file_is_refused(void **state)
{
    (void)state;
    weir_cert cert;
    weir_report report;
    assert_int_equal(weir_cert_read(&cert, path_of("none"), &report), WEIR_ENOTFOUND);
    assert_int_equal(weir_cert_read(&cert, folder, &report), WEIR_EMALFORMED);
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    assert_int_equal(weir_cert_read(&cert, path_of("pipe"), &report), WEIR_EMALFORMED);
    FILE *file = fopen(path_of("large"), "w");
    for (int i = 0; i < 8193; i++)
        fputs("#######\n", file);
    fclose(file);
    assert_int_equal(weir_cert_read(&cert, path_of("large"), &report), WEIR_ETOOBIG);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    refuse("", "no public-key");
    refuse("curve\n    secret-key = \"" KEY "\"\n", "no public-key");
    refuse("curve\n    public-key = \"short\"\n", "line 2: a public key is 40");
    refuse("curve\n    public-key = \"0000000000000000000000000000000000000000\"\n",
           "line 2: a public key is 40");
    refuse("curve\n    public-key = \"" KEY "\n", "line 2: a quote is not closed");
    refuse("curve\n    public-key = \"" KEY "\" x\n", "line 2: something is behind");
    refuse("curve\n\tpublic-key = \"" KEY "\"\n", "line 2: indentation");
    refuse("curve\n  public-key = \"" KEY "\"\n", "line 2: indentation");
    refuse("    public-key = \"" KEY "\"\n", "line 1: it is indented too far");
    refuse("curve\n            x = 1\n", "line 2: it is indented too far");
    refuse("curve {\n", "line 1: expected '='");
    refuse("=\n", "line 1: expected a name");
    refuse("metadata\n    name = \"a b\"\n", "line 2: a name has");
    refuse("metadata\n    name = ../a\n", "line 2: a name has");
    refuse("metadata\n    name = \"\"\n", "line 2: a name has");
    refuse("metadata\n    roles = \"all\"\n", "line 2: roles are");
    refuse("metadata\n    expires = \"tomorrow\"\n", "line 2: a time is");
    refuse("metadata\n    name = a\n    name = b\n",
           "line 3: this item is there already");
    refuse("curve\n    public-key = \"" KEY "\"\n    secret-key = \"" KEY "\"\n",
           "does not belong");
    weir_cert cert;
    assert_int_equal(weir_cert_parse(&cert, "a\0b\n", 4, NULL, NULL), WEIR_EMALFORMED);
}

static void forms_that_are_allowed(void **state)
{
    (void)state;
    weir_cert cert;
    weir_report report;
    static const char text[] =
        "# remark\r\n\r\nmetadata # remark\r\n    name = 'a' # remark\r\n"
        "    roles = none\r\n    address = \"x\"\r\n        deeper\r\n            "
        "still\r\n"
        "    expires = 2030-01-01 # remark\r\nother\r\n    public-key = nothing\r\n"
        "curve\r\n    public-key = \"" KEY "\"";
    if (parse(&cert, text, &report)) fail_msg("%s", report.text);
    assert_string_equal(cert.name, "a");
    assert_string_equal(cert.public_key, KEY);
    assert_int_equal(cert.roles, 0);
    assert_int_equal(cert.expires_ms, 1893456000000);
}

static void instants(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "2030-02-30",
        "2030-13-01",
        "1999-12-31",
        "2030-1-1",
        "2030-01-01T24:00:00Z",
        "2030-01-01T00:00:60Z",
        "2030-01-01T00:00:00",
        "2030-01-01 00:00:00Z",
        "",
        "2030-01-01x",
        "+030-01-01",
        "2030-01-01T00:00:00+01:00",
    };
    int64_t ms;
    char text[WEIR_EXPIRY_TEXT_MAX];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (weir_expiry_parse(&ms, wrong[i])) fail_msg("%s", wrong[i]);
    assert_true(weir_expiry_parse(&ms, "2028-02-29T23:59:59Z"));
    weir_expiry_print(ms, text);
    assert_string_equal(text, "2028-02-29T23:59:59Z");
    assert_true(weir_expiry_parse(&ms, "9999-12-31"));
    weir_expiry_print(ms, text);
    assert_string_equal(text, "9999-12-31");
}

/* --- Refusals ---------------------------------------------------------------------- */

static weir_refusal refusal_of(const char *address, int key, const char *name)
{
    weir_refusal r = {.role = "produce", .cause = "a \"cause\""};
    snprintf(r.address, sizeof r.address, "%s", address);
    snprintf(r.name, sizeof r.name, "%s", name);
    snprintf(r.key, sizeof r.key, "%040d", key);
    return r;
}

static void the_same_refusal_is_counted(void **state)
{
    (void)state;
    weir_refusals list = {.count = 0}, back;
    bool is_new;
    weir_refusal a = refusal_of("10.0.0.1", 1, "a"), b = refusal_of("10.0.0.1", 2, "");
    weir_refusals_add(&list, &a, &is_new);
    assert_true(is_new);
    weir_refusals_add(&list, &b, &is_new);
    assert_true(is_new);
    assert_int_equal(weir_refusals_add(&list, &a, &is_new)->count, 2);
    assert_false(is_new);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0].name, "a");
    assert_int_equal(weir_refusals_write(&list, path_of("refused.json")), WEIR_OK);
    assert_int_equal(weir_refusals_read(&back, path_of("refused.json")), WEIR_OK);
    assert_int_equal(back.count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(back.items[i].wall_ms, list.items[i].wall_ms);
        assert_int_equal(back.items[i].count, list.items[i].count);
        assert_string_equal(back.items[i].address, list.items[i].address);
        assert_string_equal(back.items[i].key, list.items[i].key);
        assert_string_equal(back.items[i].name, list.items[i].name);
        assert_string_equal(back.items[i].role, list.items[i].role);
        assert_string_equal(back.items[i].cause, list.items[i].cause);
    }
}

static void a_flood_of_strangers_displaces_itself(void **state)
{
    (void)state;
    weir_refusals list = {.count = 0};
    bool is_new, found = false;
    weir_refusal friend = refusal_of("10.0.0.1", 0, "friend");
    weir_refusals_add(&list, &friend, &is_new);
    for (int i = 1; i < 1000; i++) {
        weir_refusal stranger = refusal_of("10.0.0.9", i, "");
        weir_refusals_add(&list, &stranger, &is_new);
        assert_true(is_new);
    }
    assert_int_equal(list.count, 1 + WEIR_REFUSALS_MAX / 4);
    for (size_t i = 0; i < list.count; i++)
        found = found || strcmp(list.items[i].name, "friend") == 0;
    assert_true(found);
    for (int i = 0; i < 1000; i++) {
        char address[32];
        snprintf(address, sizeof address, "10.0.1.%d", i);
        weir_refusal stranger = refusal_of(address, i, "");
        weir_refusals_add(&list, &stranger, &is_new);
    }
    assert_int_equal(list.count, WEIR_REFUSALS_MAX);
    assert_string_equal(list.items[0].address, "10.0.1.999");
}

static void a_malformed_file_of_refusals_is_none(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{\"refused\":[1]}",
        "{\"refused\":[{\"time_ms\":\"x\"}]}",
        "{\"refused\":{}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        weir_refusals list;
        FILE *file = fopen(path_of("refused.json"), "w");
        fputs(texts[i], file);
        fclose(file);
        assert_int_equal(weir_refusals_read(&list, path_of("refused.json")),
                         WEIR_EMALFORMED);
        assert_int_equal(list.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_the_same),
        cmocka_unit_test(czmq_reads_ours),
        cmocka_unit_test(we_read_those_of_czmq),
        cmocka_unit_test(a_secret_for_all_to_read_is_refused),
        cmocka_unit_test(what_is_no_certificate_file_is_refused),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(forms_that_are_allowed),
        cmocka_unit_test(instants),
        cmocka_unit_test(the_same_refusal_is_counted),
        cmocka_unit_test(a_flood_of_strangers_displaces_itself),
        cmocka_unit_test(a_malformed_file_of_refusals_is_none),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
