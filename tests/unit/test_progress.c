/*  The lines of progress that go to the log where there is no terminal.          */
#include "lua/progress.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const weir_class class = {.name = "sink.null"};
static weir_plan_node node = {.name = "out", .class = &class};
static weir_plan plan = {.nodes = &node, .node_count = 1};

/*  Lines that were logged by a tick.                                          */
static size_t lines_of(weir_context_config *config, weir_vitals *vitals, int fd)
{
    char text[4096];
    size_t lines = 0;
    assert_int_equal(ftruncate(fd, 0), 0);
    weir_clock_advance(10000000);
    config->tick(config->arg, &plan, &vitals);
    ssize_t size = pread(fd, text, sizeof text, 0);
    for (ssize_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

static void what_stands_still_is_told_once(void **state)
{
    (void)state;
    char path[] = "/tmp/weir-progress-XXXXXX";
    int fd = mkstemp(path);
    weir_progress progress = {0};
    weir_context_config config = {0};
    weir_vitals *vitals = calloc(1, sizeof *vitals);
    assert_true(fd >= 0 && vitals && fcntl(fd, F_SETFL, O_APPEND) == 0);
    unlink(path);
    weir_log_configure(WEIR_INFO, false, fd);
    weir_progress_attach(&progress, &config);
    progress.terminal = false;
    assert_int_equal(lines_of(&config, vitals, fd), 0);
    weir_count_add(vitals, WEIR_COUNT_IN, 5);
    assert_int_equal(lines_of(&config, vitals, fd), 1);
    assert_int_equal(lines_of(&config, vitals, fd), 1);
    assert_int_equal(lines_of(&config, vitals, fd), 0);
    weir_progress_finish(&progress);
    weir_log_configure(WEIR_INFO, false, STDERR_FILENO);
    free(vitals);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_still_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
