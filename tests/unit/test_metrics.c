#include <ctype.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "runtime/metrics.h"
#include "runtime/monitor.h"

static const weir_class source_class = {.name = "source.test", .source = true};
static const weir_class sink_class = {.name = "sink.test", .inlet = true};

/*  Two nodes, as a running topology would show them.                          */
typedef struct {
    weir_plan_node nodes[2];
    weir_plan plan;
    weir_vitals a, b;
    weir_vitals *vitals[2];
    weir_ledger *ledger;
    weir_view view;
} scene;

static void set_scene(scene *self)
{
    *self = (scene){
        .nodes = {{.name = "in", .class = &source_class},
                  {.name = "out", .class = &sink_class}},
        .a = WEIR_VITALS_INIT,
        .b = WEIR_VITALS_INIT,
        .ledger = weir_ledger_new(1000),
    };
    self->plan = (weir_plan){.nodes = self->nodes, .node_count = 2};
    self->vitals[0] = &self->a;
    self->vitals[1] = &self->b;
    self->a.state = self->b.state = WEIR_STATE_RUNNING;
    self->view = (weir_view){"na\"me\n\\", &self->plan, self->vitals, self->ledger,
                             WEIR_PHASE_RUNNING};
}

/*  The text, to be freed.                                                     */
static char *render(const scene *self)
{
    weir_buffer out = {0};
    weir_metrics_put(&self->view, &out);
    weir_buffer_put_byte(&out, 0);
    return (char *)out.data;
}

static char *render_health(const scene *self)
{
    weir_buffer out = {0};
    weir_health_put(&self->view, &out);
    weir_buffer_put_byte(&out, 0);
    return (char *)out.data;
}

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        count++;
    return count;
}

static void assert_has(const scene *self, const char *line)
{
    char *text = render(self);
    if (count_of(text, line) != 1) fail_msg("not once: %s in\n%s", line, text);
    free(text);
}

static void labels_are_escaped(void **state)
{
    static const struct {
        const char *text, *label;
    } cases[] = {
        {"plain", "plain"},        {"", ""},
        {"a\"b", "a\\\"b"},        {"a\\b", "a\\\\b"},
        {"a\nb", "a\\nb"},         {"gr\xc3\xbcn", "gr\xc3\xbcn"},
        {"gr\xfcn\"", "gr?n\\\""}, {"\xed\xa0\x80", "???"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_buffer out = {0};
        weir_metric_put_label(&out, cases[i].text);
        weir_buffer_put_byte(&out, 0);
        assert_string_equal((char *)out.data, cases[i].label);
        weir_buffer_fini(&out);
    }
}

static void each_counter_of_each_node_is_there_once(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    for (int i = 0; i < WEIR_COUNTS; i++) {
        weir_count_add(&s.a, (weir_count)i, 100 + (uint64_t)i);
        weir_count_add(&s.b, (weir_count)i, 500 + (uint64_t)i);
    }
    char *text = render(&s);
    for (int i = 0; i < WEIR_COUNTS; i++) {
        char name[64], line[256];
        weir_metric_name((weir_count)i, name);
        snprintf(line, sizeof line, "\n%s{node=\"in\",actor=\"source.test\"} %d\n", name,
                 100 + i);
        assert_int_equal(count_of(text, line), 1);
        snprintf(line, sizeof line, "\n%s{node=\"out\",actor=\"sink.test\"} %d\n", name,
                 500 + i);
        assert_int_equal(count_of(text, line), 1);
        snprintf(line, sizeof line, "# TYPE %s %s\n", name,
                 i == WEIR_COUNT_RESIDENT ? "gauge" : "counter");
        assert_int_equal(count_of(text, line), 1);
    }
    free(text);
    weir_ledger_destroy(&s.ledger);
}

/*  The end of a name of letters, digits and _; NULL: it is none.              */
static const char *skip_name(const char *at)
{
    if (!isalpha((unsigned char)*at) && *at != '_') return NULL;
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    return at;
}

/*  name{label="value",..} number                                              */
static bool is_sample(const char *at)
{
    at = skip_name(at);
    while (at && (*at == '{' || *at == ',')) {
        at = skip_name(at + 1);
        if (!at || strncmp(at, "=\"", 2)) return false;
        for (at += 2; *at && *at != '"'; at++)
            if (*at == '\\' && *++at != '\\' && *at != '"' && *at != 'n') return false;
        at += *at == '"';
        if (*at == '}') {
            at++;
            break;
        }
    }
    if (!at || *at++ != ' ') return false;
    size_t digits = strspn(at, "0123456789.");
    return digits > 0 && at[digits] == 0;
}

static void every_line_parses_and_samples_follow_their_type(void **state)
{
    scene s;
    char type[64] = "";
    (void)state;
    set_scene(&s);
    char *text = render(&s), *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && rest;) {
        if (strncmp(line, "# HELP ", 7) == 0) continue;
        if (sscanf(line, "# TYPE %63s", type) == 1) continue;
        if (!is_sample(line)) fail_msg("'%s'", line);
        size_t size = strlen(type);
        if (strncmp(line, type, size) || isalnum((unsigned char)line[size]))
            fail_msg("'%s' below %s", line, type);
    }
    free(text);
    weir_ledger_destroy(&s.ledger);
}

static void counters_end_in_total_and_no_name_comes_twice(void **state)
{
    (void)state;
    for (const weir_metric *m = weir_metrics; m->name; m++) {
        size_t size = strlen(m->name);
        bool total = size > 6 && strcmp(m->name + size - 6, "_total") == 0;
        assert_int_equal(total, m->counter);
        assert_true(!m->put != !m->of_node);
        for (const weir_metric *n = m + 1; n->name; n++)
            assert_string_not_equal(m->name, n->name);
        for (int i = 0; i < WEIR_COUNTS; i++) {
            char name[64];
            weir_metric_name((weir_count)i, name);
            assert_string_not_equal(m->name, name);
        }
    }
}

static void what_enters_never_falls_when_a_node_starts_again(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    weir_count_add(&s.a, WEIR_COUNT_IN, 10);
    weir_count_add(&s.a, WEIR_COUNT_DONE, 7);
    weir_count_add(&s.a, WEIR_COUNT_RESIDENT, 3);
    weir_vitals_wait(&s.a, WEIR_WAIT_ACK, "out", "x");
    weir_vitals_recall(&s.a);
    assert_int_equal(weir_count_get(&s.a, WEIR_COUNT_IN), 7);
    assert_int_equal(weir_count_get(&s.a, WEIR_COUNT_RESIDENT), 0);
    assert_int_equal(weir_vitals_entered(&s.a), 10);
    assert_has(&s, "weir_in_total{node=\"in\",actor=\"source.test\"} 10\n");
    assert_has(&s, "weir_recalled_total{node=\"in\",actor=\"source.test\"} 3\n");
    weir_wait waits[WEIR_WAITS_MAX];
    assert_int_equal(weir_vitals_waits(&s.a, waits), 0);
    weir_ledger_destroy(&s.ledger);
}

static void gauges_tell_what_vitals_and_ledger_hold(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    s.a.size_hint = 100;
    s.a.position = 60;
    s.b.open = 4;
    s.b.state = WEIR_STATE_FAILED;
    weir_ledger_charge(s.ledger, WEIR_ACCOUNT_LUA, 300);
    weir_ledger_release(s.ledger, WEIR_ACCOUNT_LUA, 50);
    assert_has(&s, "weir_lag{node=\"in\",actor=\"source.test\"} 40\n");
    assert_has(&s, "weir_open_blocks{node=\"out\",actor=\"sink.test\"} 4\n");
    assert_has(&s, "weir_up{node=\"in\",actor=\"source.test\"} 1\n");
    assert_has(&s, "weir_up{node=\"out\",actor=\"sink.test\"} 0\n");
    assert_has(&s, "weir_ledger_bytes{account=\"lua\"} 250\n");
    assert_has(&s, "weir_ledger_used_bytes 250\n");
    assert_has(&s, "weir_ledger_peak_bytes 300\n");
    assert_has(&s, "weir_ledger_limit_bytes 1000\n");
    assert_has(&s,
               "weir_info{version=\"" WEIR_VERSION "\",name=\"na\\\"me\\n\\\\\"} 1\n");
    char *text = render(&s);
    assert_int_equal(count_of(text, "\nweir_lag{"), 1); // a sink has none
    free(text);
    weir_ledger_destroy(&s.ledger);
}

static double number_behind(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    assert_non_null(at);
    return strtod(at + strlen(name), NULL);
}

static void waits_are_told_in_seconds_by_kind(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    weir_vitals_wait(&s.b, WEIR_WAIT_WRITE, "f", "full");
    s.b.waits[0].since_us -= 5000000;
    weir_vitals_wait(&s.b, WEIR_WAIT_WRITE, "g", "full");
    char *text = render(&s);
    static const char name[] =
        "weir_waiting_seconds{node=\"%s\",actor=\"%s\",kind=\"%s\"}";
    char write[128], rate[128];
    snprintf(write, sizeof write, name, "out", "sink.test", "write");
    snprintf(rate, sizeof rate, name, "out", "sink.test", "rate");
    double waited = number_behind(text, write);
    assert_true(waited >= 5 && waited < 60);
    assert_true(number_behind(text, rate) == 0);
    free(text);
    weir_ledger_destroy(&s.ledger);
}

static void the_process_tells_of_itself(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    char *text = render(&s);
    assert_true(number_behind(text, "\nprocess_resident_memory_bytes ") > 100000);
    assert_true(number_behind(text, "\nprocess_open_fds ") >= 3);
    assert_true(number_behind(text, "\nprocess_max_fds ") >= 3);
    assert_true(number_behind(text, "\nprocess_cpu_seconds_total ") >= 0);
    double age =
        (double)time(NULL) - number_behind(text, "\nprocess_start_time_seconds ");
    assert_true(age >= -2 && age < 3600);
    free(text);
    weir_ledger_destroy(&s.ledger);
}

static void health_is_that_of_the_worst_node(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    assert_int_equal(weir_health_worst(&s.view), WEIR_HEALTH_OK);
    assert_true(weir_health_is_ready(&s.view));
    weir_vitals_wait(&s.a, WEIR_WAIT_CREDIT, "out", "normal");
    assert_int_equal(weir_health_worst(&s.view), WEIR_HEALTH_OK);
    weir_vitals_wait(&s.b, WEIR_WAIT_WRITE, "f", "disk \"full\"");
    assert_int_equal(weir_health_worst(&s.view), WEIR_HEALTH_DEGRADED);
    assert_true(weir_health_is_ready(&s.view));
    char *text = render_health(&s);
    assert_non_null(strstr(text, "\"status\":\"degraded\",\"ready\":true"));
    assert_non_null(strstr(text, "disk \\\"full\\\""));
    free(text);
    weir_vitals_fail(&s.a, &(weir_report){.err = WEIR_ESYS, .text = "a\xff gone"});
    assert_int_equal(weir_health_worst(&s.view), WEIR_HEALTH_FAILED);
    assert_false(weir_health_is_ready(&s.view));
    text = render_health(&s);
    assert_non_null(strstr(text, "\"health\":\"failed\",\"reasons\":[\"a? gone\""));
    free(text);
    weir_ledger_destroy(&s.ledger);
}

static void only_what_runs_is_ready(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    s.view.phase = WEIR_PHASE_STARTING;
    assert_false(weir_health_is_ready(&s.view));
    s.view.phase = WEIR_PHASE_DRAINING;
    assert_false(weir_health_is_ready(&s.view));
    weir_ledger_destroy(&s.ledger);
}

static void an_address_is_numeric_and_loopback_unless_it_is_safe(void **state)
{
    static const struct {
        weir_monitor_config config;
        const char *at_fault; // NULL: it is good
    } cases[] = {
        {{.listen = "127.0.0.1:9464"}, NULL},
        {{.listen = "127.8.9.1:0"}, NULL},
        {{.listen = "[::1]:65535"}, NULL},
        {{.listen = "[::ffff:127.0.0.1]:1"}, NULL},
        {{.listen = "0.0.0.0:9464"}, "listen"},
        {{.listen = "[::]:9464"}, "listen"},
        {{.listen = "[::ffff:10.0.0.1]:1"}, "listen"},
        {{.listen = "10.0.0.1:9464", .plaintext = true}, NULL},
        {{.listen = "10.0.0.1:9464", .cert = "c", .key = "k"}, NULL},
        {{.listen = "10.0.0.1:9464", .plaintext = true, .cert = "c"}, "tls.cert"},
        {{.listen = "127.0.0.1:9464", .key = "k"}, "tls.key"},
        {{.listen = ""}, "listen"},
        {{.listen = ":9464"}, "listen"},
        {{.listen = "127.0.0.1"}, "listen"},
        {{.listen = "127.0.0.1:"}, "listen"},
        {{.listen = "127.0.0.1:65536"}, "listen"},
        {{.listen = "127.0.0.1:-1"}, "listen"},
        {{.listen = "127.0.0.1: 80"}, "listen"},
        {{.listen = "127.0.0.1:80x"}, "listen"},
        {{.listen = "::1:9464"}, "listen"},
        {{.listen = "[::1:9464"}, "listen"},
        {{.listen = "[]:9464"}, "listen"},
        {{.listen = "[:9464"}, "listen"},
        {{.listen = "localhost:9464"}, "listen"},
        {{.listen = "http://127.0.0.1:9464"}, "listen"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_report report = {0};
        weir_err err = weir_monitor_check(&cases[i].config, &report);
        if (!err != !cases[i].at_fault) fail_msg("%s", cases[i].config.listen);
        if (err) assert_string_equal(report.where, cases[i].at_fault);
    }
}

static void a_monitor_that_cannot_listen_says_why(void **state)
{
    scene s;
    (void)state;
    set_scene(&s);
    weir_monitor *first, *second;
    weir_report report = {0};
    weir_monitor_config config = {.listen = "127.0.0.1:0"};
    assert_int_equal(weir_monitor_new(&first, &config, &s.view, &report), WEIR_OK);
    config.listen = strdup(weir_monitor_address(first) + strlen("http://"));
    assert_int_equal(weir_monitor_new(&second, &config, &s.view, &report), WEIR_ESYS);
    assert_null(second);
    assert_non_null(strstr(report.text, config.listen));
    assert_non_null(strstr(report.text, "in use"));
    free(config.listen);
    weir_monitor_destroy(&first);
    assert_null(first);
    weir_ledger_destroy(&s.ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(each_counter_of_each_node_is_there_once),
        cmocka_unit_test(every_line_parses_and_samples_follow_their_type),
        cmocka_unit_test(counters_end_in_total_and_no_name_comes_twice),
        cmocka_unit_test(what_enters_never_falls_when_a_node_starts_again),
        cmocka_unit_test(gauges_tell_what_vitals_and_ledger_hold),
        cmocka_unit_test(waits_are_told_in_seconds_by_kind),
        cmocka_unit_test(the_process_tells_of_itself),
        cmocka_unit_test(health_is_that_of_the_worst_node),
        cmocka_unit_test(only_what_runs_is_ready),
        cmocka_unit_test(an_address_is_numeric_and_loopback_unless_it_is_safe),
        cmocka_unit_test(a_monitor_that_cannot_listen_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
