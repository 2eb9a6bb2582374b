#include "tests/unit/help_folder.h"
#include "actors/source_file.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/positions.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/*  All tests run on the virtual clock, which waiting advances: lingering files and
    looks come at once. inotify is as real as the files are.                   */

/* --- A sink that collects, and can hold back what makes records safe --------------- */

#define HELD_MAX 4096

typedef struct {
    pthread_mutex_t lock; // guards all that follows
    weir_buffer text;     // payloads, each with a newline
    size_t records;
    size_t hold_from;  // later records are not made safe
    size_t safe_bytes; // of the text, before the first that is held
    weir_entry *held[HELD_MAX];
    size_t held_count;
} collected;

typedef struct {
    weir_node node;
    collected *to;
} collect_config;

typedef struct {
    weir_actor *kit;
    collected *to;
} collect;

static weir_err collect_init(void *arg, weir_actor *kit, const void *config,
                             weir_report *report)
{
    (void)report;
    collect *self = arg;
    const collect_config *c = config;
    *self = (collect){kit, c->to};
    return WEIR_OK;
}

static void collect_block(void *arg, weir_entry *entry, weir_block *block)
{
    collect *self = arg;
    collected *to = self->to;
    weir_iterator walk = {.block = block};
    weir_record record;
    pthread_mutex_lock(&to->lock);
    while (weir_iterator_next(&walk, &record, NULL)) {
        weir_buffer_put(&to->text, record.data, record.size);
        weir_buffer_put_byte(&to->text, '\n');
        to->records++;
    }
    bool hold = to->records > to->hold_from;
    if (hold && to->held_count < HELD_MAX) to->held[to->held_count++] = entry;
    if (!hold) to->safe_bytes = to->text.size;
    pthread_mutex_unlock(&to->lock);
    entry->fates.done = entry->records;
    if (!hold) weir_actor_done(self->kit, entry);
}

static weir_err collect_release(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    collect *self = arg;
    for (size_t i = 0; i < self->to->held_count; i++)
        weir_actor_done(self->kit, self->to->held[i]);
    self->to->held_count = 0;
    return WEIR_OK;
}

static const weir_option no_options[] = {{.name = NULL}};
static const weir_command collect_commands[] = {
    {"RELEASE", collect_release, "-> ; makes safe what is held"},
    {NULL, NULL, NULL},
};

static void collect_actor(zsock_t *pipe, void *config)
{
    static const weir_class class = {
        .name = "collect",
        .actor = collect_actor,
        .size = sizeof(collect),
        .config_size = sizeof(collect_config),
        .options = no_options,
        .commands = collect_commands,
        .inlet = true,
        .init = collect_init,
        .recv_block = collect_block,
    };
    weir_actor_run(&class, pipe, config);
}

/* --- The rig ----------------------------------------------------------------------- */

static weir_ledger *ledger; // outlives the blocks that are under way

typedef struct {
    weir_source_file_config config;
    collect_config sink_config;
    weir_vitals vitals;
    weir_report report;
    collected got;
    zactor_t *source, *sink;
    sem_t source_ended, sink_ended;
} rig;

static void set_up_rig(rig *self, const char *path)
{
    *self = (rig){.config = weir_source_file_defaults, .vitals = WEIR_VITALS_INIT};
    pthread_mutex_init(&self->got.lock, NULL);
    self->got.hold_from = SIZE_MAX;
    weir_texts_add(&self->config.path, path);
    self->config.node = (weir_node){.name = "in",
                                    .ledger = ledger,
                                    .vitals = &self->vitals,
                                    .report = &self->report,
                                    .ended = &self->source_ended,
                                    .block_bytes = 4096};
    sem_init(&self->source_ended, 0, 0);
    sem_init(&self->sink_ended, 0, 0);
    self->config.intake.framing = WEIR_FRAMING_LINES;
    self->sink_config = (collect_config){
        .node = {.ledger = ledger, .ended = &self->sink_ended}, .to = &self->got};
}

static void make_source(rig *self)
{
    self->source = zactor_new(weir_source_file, &self->config);
    weir_handover_take(&self->report);
}

static void run(rig *self)
{
    static int number;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://collect-%d", number++);
    self->sink = zactor_new(collect_actor, &self->sink_config);
    assert_int_equal(weir_actor_ask(self->sink, NULL, "LISTEN", endpoint, NULL), 0);
    assert_int_equal(weir_actor_ask(self->sink, NULL, "START", NULL), 0);
    make_source(self);
    if (self->report.err) fail_msg("%s: %s", self->report.where, self->report.text);
    assert_int_equal(weir_actor_ask(self->source, NULL, "CONNECT", "in", endpoint, NULL),
                     0);
    assert_int_equal(weir_actor_ask(self->source, NULL, "START", NULL), 0);
}

static void stop(rig *self)
{
    assert_int_equal(weir_actor_stop(&self->source, &self->source_ended, 60000), WEIR_OK);
    assert_int_equal(weir_actor_stop(&self->sink, &self->sink_ended, 60000), WEIR_OK);
    sem_destroy(&self->source_ended);
    sem_destroy(&self->sink_ended);
    weir_buffer_fini(&self->got.text);
    for (size_t i = 0; i < self->config.path.count; i++)
        free(self->config.path.items[i]);
    free(self->config.path.items);
    pthread_mutex_destroy(&self->got.lock);
}

enum { tries_max = 60000 }; // a millisecond each

/*  Advances the clock until the condition holds; fails after a real minute.     */
#define wait_for(condition)                                                              \
    do {                                                                                 \
        for (int tries = 0; !(condition); tries++) {                                     \
            if (tries > tries_max) fail_msg("never came: %s", #condition);               \
            pass_time(20000);                                                            \
        }                                                                                \
    } while (0)

static void pass_time(int64_t us)
{
    weir_clock_advance(us);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static bool has(rig *self, const char *text)
{
    pthread_mutex_lock(&self->got.lock);
    bool same = self->got.text.size == strlen(text) &&
                !memcmp(self->got.text.data ? self->got.text.data : (uint8_t *)"", text,
                        self->got.text.size);
    pthread_mutex_unlock(&self->got.lock);
    return same;
}

static size_t records(rig *self)
{
    pthread_mutex_lock(&self->got.lock);
    size_t count = self->got.records;
    pthread_mutex_unlock(&self->got.lock);
    return count;
}

/*  Waits for the text, and then sees that nothing more comes.                 */
static void expect(rig *self, const char *text)
{
    for (int tries = 0; tries < tries_max && !has(self, text); tries++)
        pass_time(20000);
    for (int i = 0; i < 20 && self->vitals.state == WEIR_STATE_RUNNING; i++)
        pass_time(100000);
    pthread_mutex_lock(&self->got.lock);
    weir_buffer_put_byte(&self->got.text, 0);
    assert_string_equal((char *)self->got.text.data, text);
    self->got.text.size--;
    pthread_mutex_unlock(&self->got.lock);
}

static void expect_ended(rig *self)
{
    wait_for(self->vitals.state != WEIR_STATE_RUNNING);
    if (self->vitals.state == WEIR_STATE_FAILED) fail_msg("%s", self->vitals.reason.text);
    assert_int_equal(self->vitals.state, WEIR_STATE_ENDED);
}

static void append(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/*  Lines "name 0", "name 1", ...                                              */
static void append_lines(const char *path, const char *name, int from, int to,
                         weir_buffer *copy)
{
    weir_buffer text = {0};
    for (int i = from; i < to; i++)
        weir_buffer_printf(&text, "%s %d\n", name, i);
    if (copy) weir_buffer_put(copy, text.data, text.size);
    weir_buffer_put_byte(&text, 0);
    append(path, (char *)text.data);
    weir_buffer_fini(&text);
}

static int set_up(void **state)
{
    ledger = weir_ledger_new(1 << 30);
    return enter_folder(state);
}

static int tear_down(void **state)
{
    weir_ledger_destroy(&ledger);
    return leave_folder(state);
}

/* --- Reading to the end ------------------------------------------------------------ */

static void every_line_of_every_file_comes_once(void **state)
{
    (void)state;
    enum { files = 5, lines = 60000 };
    rig r;
    set_up_rig(&r, "*.log");
    r.config.at_end = WEIR_FILE_STOP;
    for (int f = 0; f < files; f++) {
        char path[32], name[32];
        snprintf(path, sizeof path, "%d.log", f);
        snprintf(name, sizeof name, "line of %d", f);
        append_lines(path, name, 0, lines, NULL);
    }
    run(&r);
    expect_ended(&r);
    int next[files] = {0}, f, number;
    weir_buffer_put_byte(&r.got.text, 0);
    char *at = (char *)r.got.text.data;
    for (char *line; (line = strsep(&at, "\n")) && *line;) {
        assert_int_equal(sscanf(line, "line of %d %d", &f, &number), 2);
        assert_int_equal(number, next[f]++);
    }
    for (f = 0; f < files; f++)
        assert_int_equal(next[f], lines);
    assert_true(r.vitals.at_end);
    assert_int_equal(r.vitals.position, r.vitals.size_hint);
    assert_true(r.vitals.position > files * lines * 10);
    stop(&r);
}

static void the_last_line_comes_without_its_end_when_the_job_stops(void **state)
{
    (void)state;
    rig r;
    append("a", "one\ntwo");
    append("b", "three\n");
    set_up_rig(&r, "a");
    weir_texts_add(&r.config.path, "b");
    r.config.at_end = WEIR_FILE_STOP;
    run(&r);
    expect_ended(&r);
    expect(&r, "one\ntwo\nthree\n");
    stop(&r);
}

static void a_job_that_has_ended_reads_only_what_is_new(void **state)
{
    (void)state;
    rig r;
    for (int i = 0; i < 2; i++) {
        append("a", i ? "two\n" : "one\n");
        set_up_rig(&r, "a");
        r.config.at_end = WEIR_FILE_STOP;
        run(&r);
        expect_ended(&r);
        expect(&r, i ? "two\n" : "one\n");
        assert_int_equal(r.vitals.size_hint, 4);
        assert_int_equal(r.vitals.position, 4);
        stop(&r);
    }
}

static void a_file_with_two_names_is_read_once(void **state)
{
    (void)state;
    rig r;
    weir_buffer text = {0};
    append_lines("a.log", "line", 0, 50000, &text);
    weir_buffer_put_byte(&text, 0);
    assert_int_equal(link("a.log", "b.log"), 0);
    assert_int_equal(symlink("a.log", "c.log"), 0);
    set_up_rig(&r, "*.log");
    r.config.at_end = WEIR_FILE_STOP;
    r.got.hold_from = 100; // nothing more is committed meanwhile
    run(&r);
    wait_for(records(&r) == 50000);
    expect(&r, (char *)text.data);
    assert_int_equal(weir_actor_ask(r.sink, NULL, "RELEASE", NULL), 0);
    expect_ended(&r);
    stop(&r);
    weir_buffer_fini(&text);
}

static void a_job_without_its_file_does_not_begin(void **state)
{
    (void)state;
    rig r;
    append("there", "one\n");
    set_up_rig(&r, "there");
    weir_texts_add(&r.config.path, "missing.log");
    r.config.at_end = WEIR_FILE_STOP;
    make_source(&r);
    assert_int_equal(r.report.err, WEIR_ENOTFOUND);
    assert_string_equal(r.report.where, "missing.log");
    stop(&r);
}

static void a_job_whose_pattern_matches_nothing_ends(void **state)
{
    (void)state;
    rig r;
    set_up_rig(&r, "*.log");
    r.config.at_end = WEIR_FILE_STOP;
    run(&r);
    expect_ended(&r);
    assert_int_equal(records(&r), 0);
    stop(&r);
}

static void a_folder_is_refused(void **state)
{
    (void)state;
    rig r;
    assert_int_equal(mkdir("logs", 0700), 0);
    set_up_rig(&r, "logs");
    make_source(&r);
    assert_int_equal(r.report.err, WEIR_EINVAL);
    stop(&r);
}

static void a_job_fails_at_a_file_that_cannot_be_read(void **state)
{
    (void)state;
    if (geteuid() == 0) skip();
    rig r;
    append("a.log", "one\n");
    append("b.log", "two\n");
    assert_int_equal(chmod("b.log", 0), 0);
    set_up_rig(&r, "*.log");
    r.config.at_end = WEIR_FILE_STOP;
    run(&r);
    wait_for(r.vitals.state == WEIR_STATE_FAILED);
    assert_string_equal(r.vitals.reason.where, "b.log");
    stop(&r);
}

static void a_file_that_cannot_be_read_holds_up_no_other(void **state)
{
    (void)state;
    if (geteuid() == 0) skip();
    rig r;
    append("a.log", "one\n");
    append("b.log", "two\n");
    assert_int_equal(chmod("a.log", 0), 0);
    set_up_rig(&r, "*.log");
    run(&r);
    expect(&r, "two\n");
    assert_int_equal(chmod("a.log", 0600), 0);
    expect(&r, "two\none\n");
    stop(&r);
}

/* --- Following --------------------------------------------------------------------- */

static void a_line_is_held_back_until_its_end_comes(void **state)
{
    (void)state;
    rig r;
    append("a", "one\ntwo");
    set_up_rig(&r, "a");
    run(&r);
    expect(&r, "one\n");
    wait_for(r.vitals.at_end);
    append("a", " and a half");
    expect(&r, "one\n");
    append("a", "\nthree\n");
    expect(&r, "one\ntwo and a half\nthree\n");
    wait_for(r.vitals.position == 25);
    assert_int_equal(r.vitals.size_hint, 25);
    stop(&r);
}

static void a_writer_is_followed(void **state)
{
    (void)state;
    rig r;
    weir_buffer text = {0};
    append("a", "");
    set_up_rig(&r, "a");
    run(&r);
    for (int i = 0; i < 200; i++)
        append_lines("a", "line", 100 * i, 100 * i + 100, &text);
    weir_buffer_put_byte(&text, 0);
    expect(&r, (char *)text.data);
    wait_for(r.vitals.position == (int64_t)text.size - 1);
    assert_int_equal(r.vitals.size_hint, text.size - 1);
    weir_buffer_fini(&text);
    stop(&r);
}

static void a_multiline_record_falls_due(void **state)
{
    (void)state;
    rig r;
    append("a", "at one\n  more\nat two\n  more\n");
    set_up_rig(&r, "a");
    r.config.intake.lines_begin = "^at";
    run(&r);
    expect(&r, "at one\n  more\nat two\n  more\n");
    assert_int_equal(records(&r), 2);
    append("a", "at three\n");
    append("a", "  more\n");
    expect(&r, "at one\n  more\nat two\n  more\nat three\n  more\n");
    assert_int_equal(records(&r), 3);
    stop(&r);
}

static void what_is_there_at_the_first_start_can_be_passed_over(void **state)
{
    (void)state;
    rig r;
    append("a.log", "old\n");
    set_up_rig(&r, "*.log");
    r.config.start = WEIR_FILE_END;
    run(&r);
    wait_for(r.vitals.at_end);
    append("a.log", "new\n");
    append("b.log", "another\n");
    wait_for(r.vitals.position == 12); // what is not safe would come again
    stop(&r);
    append("c.log", "while away\n");
    set_up_rig(&r, "*.log");
    r.config.start = WEIR_FILE_END;
    run(&r);
    expect(&r, "while away\n");
    stop(&r);
}

static void what_comes_while_memory_is_short_is_not_passed_over(void **state)
{
    (void)state;
    rig r;
    append("a.log", "old\n");
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_QUEUES, 1 << 30), 0);
    set_up_rig(&r, "*.log");
    r.config.start = WEIR_FILE_END;
    run(&r);
    append("a.log", "new\n");
    for (int i = 0; i < 10; i++)
        pass_time(100000);
    assert_int_equal(records(&r), 0);
    weir_ledger_release(ledger, WEIR_ACCOUNT_QUEUES, 1 << 30);
    expect(&r, "new\n");
    stop(&r);
}

static void a_source_waits_for_its_file(void **state)
{
    (void)state;
    rig r;
    set_up_rig(&r, "logs/deep/*.log");
    run(&r);
    wait_for(r.vitals.at_end);
    assert_int_equal(mkdir("logs", 0700), 0);
    assert_int_equal(mkdir("logs/deep", 0700), 0);
    append("logs/deep/a.log", "one\n");
    expect(&r, "one\n");
    append("logs/deep/a.log", "two\n");
    append("logs/deep/b.log", "three\n");
    wait_for(records(&r) == 3);
    stop(&r);
}

static void a_file_behind_a_link_is_followed(void **state)
{
    (void)state;
    rig r;
    assert_int_equal(mkdir("away", 0700), 0);
    append("away/a", "one\n");
    assert_int_equal(symlink("away/a", "a.log"), 0);
    set_up_rig(&r, "*.log");
    run(&r);
    expect(&r, "one\n");
    append("away/a", "two\n");
    expect(&r, "one\ntwo\n");
    stop(&r);
}

/* --- Rotation and truncation ------------------------------------------------------- */

static void a_renamed_file_is_read_to_its_end(void **state)
{
    (void)state;
    rig r;
    append("a.log", "one\n");
    set_up_rig(&r, "a.log");
    run(&r);
    expect(&r, "one\n");
    int fd = open("a.log", O_WRONLY | O_APPEND);
    assert_int_equal(rename("a.log", "a.old"), 0);
    append("a.log", "three\n");
    assert_int_equal(write(fd, "two", 3), 3);
    close(fd);
    expect(&r, "one\ntwo\nthree\n");
    append("a.log", "four\n");
    expect(&r, "one\ntwo\nthree\nfour\n");
    stop(&r);
}

static void a_rotated_file_that_still_matches_is_not_read_again(void **state)
{
    (void)state;
    rig r;
    append("access.log", "one\n");
    set_up_rig(&r, "access.log*");
    run(&r);
    expect(&r, "one\n");
    for (int i = 0; i < 3; i++) {
        if (i) assert_int_equal(rename("access.log.1", "access.log.2"), 0);
        assert_int_equal(rename("access.log", "access.log.1"), 0);
        append("access.log", "new\n");
        wait_for(records(&r) == (size_t)i + 2);
    }
    append("access.log.1", "late\n");
    expect(&r, "one\nnew\nnew\nnew\nlate\n");
    wait_for(r.vitals.position == 21);
    stop(&r);
    assert_int_equal(rename("access.log", "access.log.3"), 0);
    append("access.log.3", "while away\n");
    set_up_rig(&r, "access.log*");
    run(&r);
    expect(&r, "while away\n");
    stop(&r);
}

static void a_file_that_is_copied_and_truncated_is_read_on(void **state)
{
    (void)state;
    rig r;
    append("a.log", "one\ntwo\nthr");
    set_up_rig(&r, "a.log");
    run(&r);
    expect(&r, "one\ntwo\n");
    assert_int_equal(truncate("a.log", 0), 0);
    append("a.log", "four\n");
    expect(&r, "one\ntwo\nfour\n");
    wait_for(r.vitals.position == 13);
    assert_int_equal(r.vitals.size_hint, 13);
    stop(&r);
}

static void a_deleted_file_is_left_and_forgotten(void **state)
{
    (void)state;
    rig r;
    append("a.log", "one\ntwo");
    append("b.log", "three\n");
    set_up_rig(&r, "*.log");
    run(&r);
    wait_for(records(&r) == 2);
    assert_int_equal(unlink("a.log"), 0);
    wait_for(records(&r) == 3);
    expect(&r, "one\nthree\ntwo\n");
    append("a.log", "four\n");
    expect(&r, "one\nthree\ntwo\nfour\n");
    stop(&r);
    weir_positions *positions;
    weir_report report = {0};
    weir_file_id id;
    const char *name;
    uint64_t offset;
    int at = 0, slots = 0;
    assert_int_equal(weir_positions_open(&positions, "in.positions", &report), 0);
    while (weir_positions_next(positions, &at, &id, &name, &offset))
        slots++;
    weir_positions_close(&positions);
    assert_int_equal(slots, 2);
}

/* --- What is safe ------------------------------------------------------------------ */

static void a_restart_reads_again_what_was_not_acknowledged(void **state)
{
    (void)state;
    rig r;
    weir_buffer text = {0};
    append_lines("a", "a line", 0, 20000, &text);
    set_up_rig(&r, "a");
    r.got.hold_from = 5000;
    run(&r);
    wait_for(records(&r) == 20000);
    size_t safe = r.got.safe_bytes; // all that comes after them is held
    assert_in_range(safe, 1, text.size - 1);
    assert_int_equal(text.data[safe - 1], '\n');
    wait_for(r.vitals.position == (int64_t)safe);
    stop(&r);
    set_up_rig(&r, "a");
    run(&r);
    weir_buffer_put_byte(&text, 0);
    expect(&r, (char *)text.data + safe);
    stop(&r);
    weir_buffer_fini(&text);
}

static void positions_of_a_rotated_file_stay_in_order(void **state)
{
    (void)state;
    rig r;
    append("a.log", "one\ntwo\n");
    set_up_rig(&r, "a.log*");
    r.got.hold_from = 0;
    run(&r);
    wait_for(records(&r) == 2);
    assert_int_equal(rename("a.log", "a.log.1"), 0);
    append("a.log", "new\n");
    wait_for(records(&r) == 3);
    append("a.log.1", "late\n");
    wait_for(records(&r) == 4);
    stop(&r); // nothing was safe
    set_up_rig(&r, "a.log*");
    run(&r);
    expect(&r, "new\none\ntwo\nlate\n");
    wait_for(r.vitals.position == 17);
    stop(&r);
    set_up_rig(&r, "a.log*");
    run(&r);
    wait_for(r.vitals.at_end);
    append("a.log", "last\n");
    expect(&r, "last\n");
    stop(&r);
}

/*  Filtered records make an entry that is safe before an older block is.      */
static void a_filtered_line_of_a_rotated_file_does_not_overtake(void **state)
{
    (void)state;
    rig r;
    append("a.log", "one\n");
    set_up_rig(&r, "a.log*");
    r.config.intake.screen.where = "not $raw ~ 'noise'";
    r.got.hold_from = 0;
    run(&r);
    wait_for(records(&r) == 1);
    assert_int_equal(rename("a.log", "a.log.1"), 0);
    append("a.log", "new\n");
    wait_for(records(&r) == 2);
    append("a.log.1", "noise\n");
    wait_for(r.vitals.size_hint == 14 && r.vitals.at_end);
    assert_int_equal(r.vitals.position, 0);
    stop(&r);
    set_up_rig(&r, "a.log*");
    run(&r);
    expect(&r, "new\none\nnoise\n");
    stop(&r);
}

static void draining_leaves_the_unfinished_line_to_the_next_run(void **state)
{
    (void)state;
    rig r;
    append("a", "one\ntwo");
    set_up_rig(&r, "a");
    run(&r);
    expect(&r, "one\n");
    assert_int_equal(weir_actor_ask(r.source, NULL, "DRAIN", NULL), 0);
    expect_ended(&r);
    append("a", " and a half\n");
    expect(&r, "one\n");
    stop(&r);
    set_up_rig(&r, "a");
    run(&r);
    expect(&r, "two and a half\n");
    stop(&r);
}

static void the_rate_is_kept(void **state)
{
    (void)state;
    rig r;
    append_lines("a", "line", 0, 1000, NULL);
    set_up_rig(&r, "a");
    r.config.at_end = WEIR_FILE_STOP;
    r.config.intake.rate_records = 100;
    int64_t begun = weir_clock_now_us();
    run(&r);
    while (records(&r) < 1000) {
        size_t seen = records(&r);
        int64_t passed = weir_clock_now_us() - begun;
        assert_true((int64_t)seen <= 102 + passed / 10000);
        pass_time(10000);
    }
    assert_true(weir_clock_now_us() - begun >= 8900000);
    expect_ended(&r);
    stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(every_line_of_every_file_comes_once),
        TEST(the_last_line_comes_without_its_end_when_the_job_stops),
        TEST(a_job_that_has_ended_reads_only_what_is_new),
        TEST(a_file_with_two_names_is_read_once),
        TEST(a_job_without_its_file_does_not_begin),
        TEST(a_job_whose_pattern_matches_nothing_ends),
        TEST(a_folder_is_refused),
        TEST(a_job_fails_at_a_file_that_cannot_be_read),
        TEST(a_file_that_cannot_be_read_holds_up_no_other),
        TEST(a_line_is_held_back_until_its_end_comes),
        TEST(a_writer_is_followed),
        TEST(a_multiline_record_falls_due),
        TEST(what_is_there_at_the_first_start_can_be_passed_over),
        TEST(what_comes_while_memory_is_short_is_not_passed_over),
        TEST(a_source_waits_for_its_file),
        TEST(a_file_behind_a_link_is_followed),
        TEST(a_renamed_file_is_read_to_its_end),
        TEST(a_rotated_file_that_still_matches_is_not_read_again),
        TEST(a_file_that_is_copied_and_truncated_is_read_on),
        TEST(a_deleted_file_is_left_and_forgotten),
        TEST(a_restart_reads_again_what_was_not_acknowledged),
        TEST(positions_of_a_rotated_file_stay_in_order),
        TEST(a_filtered_line_of_a_rotated_file_does_not_overtake),
        TEST(draining_leaves_the_unfinished_line_to_the_next_run),
        TEST(the_rate_is_kept),
    };
    weir_clock_go_virtual(1700000000000);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed) _exit(1); // its actors still run
    return 0;
}
