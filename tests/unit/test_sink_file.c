/*  sink.file: what it cuts, what it leaves, and when it acknowledges.         */
#include "actors/sink_file.h"
#include "tests/unit/help_actor.h"
#include "tests/unit/help_folder.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

static char path[128];
static uint64_t limit, filler; // payloads that are made, and bytes added to each

static const char *make(uint64_t n, char text[256])
{
    if (n >= limit) return NULL;
    snprintf(text, 256, "{\"n\":%d,\"x\":\"%.*s\"}", (int)n, (int)filler,
             "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
             "xxxxxxxxx"
             "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
             "xxxxx");
    return text;
}

static int set_up(void **state)
{
    if (make_folder(state)) return -1;
    snprintf(path, sizeof path, "%s/out.ndjson", folder);
    limit = 10;
    filler = 0;
    return 0;
}

/* --- The pair ---------------------------------------------------------------------- */

typedef struct {
    feed_config feed;
    weir_sink_file_config file;
    member source, sink;
} pair;

static pair *new_pair(uint32_t block_records)
{
    pair *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->feed.make = make;
    p->feed.block_records = block_records;
    p->feed.allowed = UINT64_MAX;
    p->file = weir_sink_file_defaults;
    p->file.path = path;
    p->file.node.state_dir = folder;
    return p;
}

static void open_sink(pair *p)
{
    fill_node(&p->sink, &p->file.node, "sink");
    open_member(&p->sink, weir_sink_file, &p->file);
}

static void open_pair(pair *p)
{
    static int pairs;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://file-%d", ++pairs);
    open_sink(p);
    listen_at(&p->sink, endpoint);
    start(&p->sink);
    fill_node(&p->source, &p->feed.node, "in");
    open_member(&p->source, feed_actor, &p->feed);
    connect_to(&p->source, "in", endpoint);
    start(&p->source);
}

static bool has_ended(const pair *p)
{
    return p->source.vitals.state == WEIR_STATE_ENDED;
}

static void close_pair(pair **p_p)
{
    pair *p = *p_p;
    stop(&p->source);
    stop(&p->sink);
    assert_balanced(&p->sink);
    free(p);
    *p_p = NULL;
}

/*  Runs the pair until all is safe.                                           */
static void run(int framing)
{
    pair *p = new_pair(3);
    p->file.delivery.framing = framing;
    open_pair(p);
    wait_until(has_ended(p));
    close_pair(&p);
}

static void append(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static char content[1 << 20];

static const char *read_out(const char *file)
{
    int fd = open(file, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, content, sizeof content - 1) : 0;
    content[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
    return content;
}

static size_t lines_in(const char *file)
{
    size_t lines = 0;
    for (const char *at = read_out(file); *at; at++)
        lines += *at == '\n';
    return lines;
}

/* --- The end of the file ----------------------------------------------------------- */

static void records_are_lines_in_order(void **state)
{
    (void)state;
    run(WEIR_DELIVERY_LINES);
    assert_string_equal(
        read_out(path),
        "{\"n\":0,\"x\":\"\"}\n{\"n\":1,\"x\":\"\"}\n{\"n\":2,\"x\":\"\"}\n"
        "{\"n\":3,\"x\":\"\"}\n{\"n\":4,\"x\":\"\"}\n{\"n\":5,\"x\":\"\"}\n"
        "{\"n\":6,\"x\":\"\"}\n{\"n\":7,\"x\":\"\"}\n{\"n\":8,\"x\":\"\"}\n"
        "{\"n\":9,\"x\":\"\"}\n");
}

static void a_torn_tail_of_ours_is_cut(void **state)
{
    (void)state;
    run(WEIR_DELIVERY_LINES);
    append(path, "{\"n\":10}\n{\"n\":11,\"to");
    run(WEIR_DELIVERY_LINES);
    assert_null(strstr(read_out(path), "11"));
    assert_non_null(strstr(content, "{\"n\":10}\n{\"n\":0,"));
    assert_int_equal(lines_in(path), 21);
}

static void a_torn_tail_longer_than_one_look_is_cut(void **state)
{
    (void)state;
    run(WEIR_DELIVERY_LINES);
    static char half[200001];
    memset(half, 'y', sizeof half - 1);
    append(path, "whole\n");
    append(path, half);
    run(WEIR_DELIVERY_LINES);
    assert_null(strchr(read_out(path), 'y'));
    assert_non_null(strstr(content, "whole\n{"));
}

static void a_torn_blob_of_ours_is_cut(void **state)
{
    (void)state;
    limit = 2;
    run(WEIR_DELIVERY_BLOB);
    append(path, "{\"n\":9");
    run(WEIR_DELIVERY_BLOB);
    assert_string_equal(read_out(path), "{\"n\":0,\"x\":\"\"}{\"n\":1,\"x\":\"\"}"
                                        "{\"n\":0,\"x\":\"\"}{\"n\":1,\"x\":\"\"}");
}

static void a_foreign_file_is_never_cut(void **state)
{
    (void)state;
    limit = 1;
    append(path, "not\nours");
    run(WEIR_DELIVERY_LINES);
    assert_string_equal(read_out(path), "not\nours\n{\"n\":0,\"x\":\"\"}\n");
}

static void a_file_in_the_place_of_ours_is_foreign(void **state)
{
    (void)state;
    run(WEIR_DELIVERY_LINES);
    /*  The same inode, other content, longer than ours was.                   */
    static char other[4096];
    memset(other, 'z', sizeof other - 1);
    truncate(path, 0);
    append(path, other);
    limit = 1;
    run(WEIR_DELIVERY_LINES);
    assert_int_equal(strspn(read_out(path), "z"), sizeof other - 1);
    assert_int_equal(lines_in(path), 2);
}

static void what_is_no_regular_file_is_refused(void **state)
{
    (void)state;
    pair *p = new_pair(1);
    p->file.path = folder;
    fill_node(&p->sink, &p->file.node, "sink");
    p->sink.actor = zactor_new(weir_sink_file, &p->file);
    weir_handover_take(&p->sink.report);
    assert_int_equal(p->sink.report.err, WEIR_ESYS);
    assert_string_equal(p->sink.report.where, folder);
    stop(&p->sink);
    free(p);
}

/* --- Acknowledgement --------------------------------------------------------------- */

static void a_delayed_fsync_delays_acknowledgement(void **state)
{
    (void)state;
    pair *p = new_pair(1);
    p->file.fsync_us = 300000;
    int64_t begun = zclock_mono(); // before anything can be written
    open_pair(p);
    wait_until(lines_in(path) == 10);
    uint64_t early = p->feed.committed;
    if (zclock_mono() - begun < 200) assert_int_equal(early, 0);
    wait_until(has_ended(p));
    assert_true(zclock_mono() - begun >= 250);
    close_pair(&p);
}

static void without_fsync_a_write_is_enough(void **state)
{
    (void)state;
    pair *p = new_pair(1);
    p->file.fsync_us = WEIR_FOREVER;
    open_pair(p);
    wait_until(has_ended(p));
    assert_int_equal(lines_in(path), 10);
    close_pair(&p);
}

static void filtered_blocks_need_no_write(void **state)
{
    (void)state;
    static const int64_t policies[] = {WEIR_ALWAYS, 20000, WEIR_FOREVER};
    for (size_t i = 0; i < 3; i++) {
        pair *p = new_pair(2);
        p->file.delivery.screen.where = (char *)"n > 100";
        p->file.fsync_us = policies[i];
        open_pair(p);
        wait_until(has_ended(p));
        assert_int_equal(count_of(&p->sink, WEIR_COUNT_FILTERED), 10);
        close_pair(&p);
        assert_int_equal(lines_in(path), 0);
    }
}

static const char *make_lines(uint64_t n, char text[256])
{
    if (n >= 4) return NULL;
    return strcpy(text, n == 2 ? "{\"a\":\n1}" : n == 1 ? "{\"a\":\n" : "{}");
}

static void what_cannot_be_a_line_is_a_dead_letter(void **state)
{
    (void)state;
    pair *p = new_pair(4);
    p->feed.make = make_lines;
    open_pair(p);
    wait_until(has_ended(p));
    assert_string_equal(read_out(path), "{}\n{\"a\": 1}\n{}\n");
    assert_int_equal(count_of(&p->sink, WEIR_COUNT_DEAD), 1);
    close_pair(&p);
}

/* --- Reopening --------------------------------------------------------------------- */

static void reopen_goes_on_in_the_new_file(void **state)
{
    (void)state;
    char moved[160];
    snprintf(moved, sizeof moved, "%s/out.1", folder);
    pair *p = new_pair(1);
    p->feed.allowed = 4;
    open_pair(p);
    wait_until(p->feed.committed == 4);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(weir_actor_ask(p->sink.actor, NULL, "REOPEN", NULL), WEIR_OK);
    assert_int_equal(weir_actor_ask(p->sink.actor, NULL, "REOPEN", NULL), WEIR_OK);
    p->feed.allowed = UINT64_MAX;
    weir_actor_ask(p->source.actor, NULL, "LOOK", NULL);
    wait_until(has_ended(p));
    close_pair(&p);
    assert_int_equal(lines_in(moved), 4);
    assert_int_equal(lines_in(path), 6);
}

/* --- A full disk ------------------------------------------------------------------- */

static bool mount_small(void)
{
    if (mount("tmpfs", folder, "tmpfs", 0, "size=64k") == 0) return true;
    printf("skipped, a tmpfs cannot be mounted: %s\n", strerror(errno));
    return false;
}

/*  The state folder is on the other disk: only the output has no room.        */
static void a_full_disk_holds_and_loses_nothing(void **state)
{
    (void)state;
    static const int64_t policies[] = {WEIR_ALWAYS, 1000, WEIR_FOREVER};
    for (size_t i = 0; i < 3; i++) {
        char states[] = "/tmp/test_sink_state.XXXXXX", file[160];
        if (!mount_small()) return;
        assert_non_null(mkdtemp(states));
        snprintf(file, sizeof file, "%s/filler", folder);
        int fd = open(file, O_WRONLY | O_CREAT, 0600);
        char page[4096] = {0};
        for (int n = 0; n < 10; n++) // 24 KB are left
            assert_int_equal(write(fd, page, sizeof page), sizeof page);
        close(fd);
        pair *p = new_pair(10);
        limit = 300;
        filler = 140;
        p->file.node.state_dir = states;
        p->file.retry_first_us = p->file.retry_max_us = 20000;
        p->file.fsync_us = policies[i];
        p->feed.node.block_bytes = 1024;
        open_pair(p);
        wait_until(count_of(&p->sink, WEIR_COUNT_RETRIES) >= 5);
        size_t lines = lines_in(path);
        assert_in_range(lines, 0, 299);
        assert_true(p->feed.committed * 10 <= lines); // not one that is not there
        assert_int_equal(weir_actor_ask(p->sink.actor, NULL, "REOPEN", NULL), WEIR_OK);
        zclock_sleep(50);
        assert_true(p->feed.committed * 10 <= lines_in(path));
        assert_false(has_ended(p));
        unlink(file); // room again
        wait_until(has_ended(p));
        assert_int_equal(lines_in(path), 300);
        char text[256];
        const char *at = content;
        for (uint64_t n = 0; n < 300; n++, at = strchr(at, '\n') + 1)
            assert_int_equal(strncmp(at, make(n, text), strlen(make(n, text))), 0);
        close_pair(&p);
        assert_int_equal(umount2(folder, MNT_DETACH), 0);
        snprintf(file, sizeof file, "%s/sink.tail", states);
        unlink(file);
        rmdir(states);
    }
}

static void the_last_attempt_is_a_stop(void **state)
{
    (void)state;
    if (!mount_small()) return;
    char states[] = "/tmp/test_sink_state.XXXXXX", file[160];
    assert_non_null(mkdtemp(states));
    pair *p = new_pair(10);
    limit = 1000;
    filler = 140;
    p->file.node.state_dir = states;
    p->file.retry_first_us = 1000;
    p->file.retry_attempts = 3;
    open_pair(p);
    wait_until(p->sink.vitals.state == WEIR_STATE_FAILED);
    assert_int_equal(count_of(&p->sink, WEIR_COUNT_RETRIES), 2);
    assert_string_equal(p->sink.vitals.reason.where, path);
    assert_true(p->feed.committed * 10 <= lines_in(path));
    close_pair(&p);
    umount2(folder, MNT_DETACH);
    snprintf(file, sizeof file, "%s/sink.tail", states);
    unlink(file);
    rmdir(states);
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, remove_folder)

int main(void)
{
    weir_socket_prepare();
    const struct CMUnitTest tests[] = {
        ROW(records_are_lines_in_order),
        ROW(a_torn_tail_of_ours_is_cut),
        ROW(a_torn_tail_longer_than_one_look_is_cut),
        ROW(a_torn_blob_of_ours_is_cut),
        ROW(a_foreign_file_is_never_cut),
        ROW(a_file_in_the_place_of_ours_is_foreign),
        ROW(what_is_no_regular_file_is_refused),
        ROW(a_delayed_fsync_delays_acknowledgement),
        ROW(without_fsync_a_write_is_enough),
        ROW(filtered_blocks_need_no_write),
        ROW(what_cannot_be_a_line_is_a_dead_letter),
        ROW(reopen_goes_on_in_the_new_file),
        ROW(a_full_disk_holds_and_loses_nothing),
        ROW(the_last_attempt_is_a_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
