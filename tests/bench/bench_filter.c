/*  What a verdict costs on a record that is parsed already: ns, best of several rounds.

    bench_filter [EXPRESSION...]                                                       */
#include "runtime/filter.h"
#include <stdio.h>
#include <time.h>

#define MATCHES 200000

static const char document[] =
    "{\"ip\":\"93.180.71.3\",\"ident\":\"-\",\"user\":\"-\",\"time\":\"2015-05-17T08:05:"
    "32Z\","
    "\"method\":\"GET\",\"path\":\"/downloads/product_1?q=1\",\"status\":304,\"bytes\":0,"
    "\"referer\":\"-\",\"agent\":\"Debian APT-HTTP/1.3 (0.8.16~exp12ubuntu10.21)\"}";

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double best_ns(weir_filter *filter, weir_subject *subject)
{
    volatile unsigned sink = 0;
    double best = 1e300;
    for (int round = 0; round < 10; round++) {
        uint64_t start = now_ns();
        for (int i = 0; i < MATCHES; i++)
            sink += weir_filter_match(filter, subject);
        double ns = (double)(now_ns() - start) / MATCHES;
        if (ns < best) best = ns;
    }
    return best;
}

static bool report_one(const char *text, weir_subject *subject)
{
    static const char *const names[] = {"false", "true", "unknown"};
    weir_filter *filter = NULL;
    weir_report report = {0};
    size_t column = 0;
    if (weir_filter_new(&filter, text, &column, &report)) {
        fprintf(stderr, "%s\ncolumn %zu: %s\n", text, column, report.text);
        return false;
    }
    weir_verdict verdict = weir_filter_match(filter, subject);
    printf("%8.1f ns  %-7s  %s\n", best_ns(filter, subject), names[verdict], text);
    weir_filter_destroy(&filter);
    return true;
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {
        "status >= 500",
        "status >= 300 and status < 400",
        "method == 'GET'",
        "method in ('PUT', 'POST', 'PATCH', 'GET')",
        "path prefix '/downloads/'",
        "agent contains 'ubuntu'",
        "path ~ '^/downloads/product_[0-9]+'",
        "not $raw ~ 'healthz'",
        "has user and not missing",
        "$ts > 0",
    };
    weir_doc doc = {0};
    weir_subject subject = {.record = {.format = WEIR_JSON,
                                       .data = (const uint8_t *)document,
                                       .size = sizeof document - 1},
                            .doc = &doc};
    bool good = weir_subject_parse(&subject);
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            good = report_one(argv[i], &subject) && good;
    } else {
        for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
            good = report_one(usual[i], &subject) && good;
    }
    weir_doc_fini(&doc);
    return good ? 0 : 1;
}
