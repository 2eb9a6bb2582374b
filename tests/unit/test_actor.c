/*  The kit: commands, timers, watches, ends, and the ack barrier.             */
#include "runtime/actor.h"
#include "tests/unit/help_actor.h"
#include <dirent.h>
#include <signal.h>
#include <sys/eventfd.h>

typedef struct {
    weir_node node;
    weir_err init_err;
    bool say_why;
    bool stuck; // sleeps in a command
    int fd;
    _Atomic int fired, readable, turns;
} probe_config;

typedef struct {
    weir_actor *kit;
    probe_config *config;
    uint64_t token;
} probe;

static weir_err probe_init(void *arg, weir_actor *kit, const void *config,
                           weir_report *report)
{
    probe *self = arg;
    self->kit = kit;
    self->config = (probe_config *)(uintptr_t)config;
    if (self->config->say_why)
        return weir_report_set(report, self->config->init_err, "web.lua:1",
                               "it must not");
    return self->config->init_err;
}

static void ring(void *arg)
{
    probe *self = arg;
    self->config->fired++;
}

static void read_fd(void *arg)
{
    probe *self = arg;
    eventfd_t value;
    eventfd_read(self->config->fd, &value);
    self->config->readable++;
}

static void fail_by_fd(void *arg)
{
    probe *self = arg;
    weir_actor_fail(self->kit, WEIR_ESTOP, "here", "as asked");
}

static bool probe_turn(void *arg)
{
    probe *self = arg;
    self->config->turns++;
    return false;
}

static int64_t number(zmsg_t *args)
{
    char *text = zmsg_popstr(args);
    int64_t value = text ? atoll(text) : 0;
    zstr_free(&text);
    return value;
}

static weir_err cmd_timer(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)reply;
    probe *self = arg;
    weir_actor_timer(self->kit, ring, number(args));
    return WEIR_OK;
}

static weir_err cmd_watch(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    probe *self = arg;
    return weir_actor_watch(self->kit, self->config->fd, read_fd);
}

static weir_err cmd_unwatch(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    probe *self = arg;
    weir_actor_unwatch(self->kit, self->config->fd);
    return WEIR_OK;
}

static weir_err cmd_fail(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    probe *self = arg;
    return weir_actor_watch(self->kit, self->config->fd, fail_by_fd);
}

static weir_err cmd_sleep(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)arg;
    (void)reply;
    zclock_sleep((int)number(args));
    return WEIR_OK;
}

static weir_err cmd_echo(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)arg;
    for (char *text; (text = zmsg_popstr(args)); zstr_free(&text))
        zmsg_addstr(reply, text);
    return WEIR_OK;
}

static weir_err cmd_refuse(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)arg;
    (void)args;
    zmsg_addstr(reply, "no");
    return WEIR_EREFUSED;
}

static weir_err cmd_stick(void *arg, zmsg_t *args, zmsg_t *reply)
{
    probe *self = arg;
    (void)args;
    (void)reply;
    weir_actor_stuck(self->kit);
    return WEIR_OK;
}

static const weir_command probe_commands[] = {
    {"TIMER", cmd_timer, "us -> ; sets the timer"},
    {"WATCH", cmd_watch, "-> ; watches the descriptor"},
    {"UNWATCH", cmd_unwatch, "-> ; and no more"},
    {"FAIL", cmd_fail, "-> ; fails when the descriptor is readable"},
    {"SLEEP", cmd_sleep, "ms -> ; is busy"},
    {"ECHO", cmd_echo, "text ... -> text ... ; says it again"},
    {"STICK", cmd_stick, "-> ; says that a thread of its own does not end"},
    {"REFUSE", cmd_refuse, "-> ; fails"},
    {NULL, NULL, NULL},
};

static void probe_actor(zsock_t *pipe, void *config);
static const weir_class probe_class = {
    .name = "test.probe",
    .help = "does what a test asks",
    .actor = probe_actor,
    .size = sizeof(probe),
    .config_size = sizeof(probe_config),
    .options = no_options,
    .commands = probe_commands,
    .init = probe_init,
    .turn = probe_turn,
};

static void probe_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&probe_class, pipe, config);
}

static probe_config config;
static member owner;

static int open_probe(void **state)
{
    (void)state;
    config = (probe_config){.fd = eventfd(0, EFD_NONBLOCK)};
    fill_node(&owner, &config.node, "probe");
    owner.actor = zactor_new(probe_actor, &config);
    weir_handover_take(&owner.report);
    return owner.actor && !owner.report.err ? 0 : -1;
}

static int close_probe(void **state)
{
    (void)state;
    if (owner.actor) stop(&owner);
    close(config.fd);
    return 0;
}

static weir_err ask(const char *command, const char *argument)
{
    return weir_actor_ask(owner.actor, NULL, command, argument, NULL);
}

/* --- Commands ---------------------------------------------------------------------- */

static void every_command_gets_exactly_one_reply(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ECHO",   "REFUSE",  "NONSENSE", "HELP",   "STATS", "START", "START",
        "LISTEN", "CONNECT", "DRAIN",    "REOPEN", "",      "ECHO"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        zmsg_t *command = zmsg_new();
        zmsg_addstr(command, names[i]);
        zmsg_send(&command, owner.actor);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        zmsg_t *reply = zmsg_recv(owner.actor);
        assert_non_null(reply);
        char *code = zmsg_popstr(reply);
        assert_non_null(code);
        bool good = i == 0 || i == 3 || i == 4 || i == 5 || i == 9 || i == 10 || i == 12;
        if (good)
            assert_string_equal(code, "0");
        else
            assert_string_not_equal(code, "0");
        zstr_free(&code);
        zmsg_destroy(&reply);
    }
    zsock_set_rcvtimeo(owner.actor, 20);
    assert_null(zmsg_recv(owner.actor));
    zsock_set_rcvtimeo(owner.actor, -1);
}

static void replies_carry_code_and_frames(void **state)
{
    (void)state;
    zmsg_t *reply = NULL;
    assert_int_equal(weir_actor_ask(owner.actor, &reply, "ECHO", "a", "b", NULL),
                     WEIR_OK);
    assert_int_equal(zmsg_size(reply), 2);
    char *text = zmsg_popstr(reply);
    assert_string_equal(text, "a");
    zstr_free(&text);
    zmsg_destroy(&reply);
    assert_int_equal(weir_actor_ask(owner.actor, &reply, "NONSENSE", NULL),
                     WEIR_ENOTFOUND);
    text = zmsg_popstr(reply);
    assert_non_null(strstr(text, "NONSENSE"));
    zstr_free(&text);
    zmsg_destroy(&reply);
    assert_int_equal(weir_actor_ask(owner.actor, &reply, "REFUSE", NULL), WEIR_EREFUSED);
    zmsg_destroy(&reply);
    assert_int_equal(weir_actor_ask(owner.actor, &reply, "HELP", NULL), WEIR_OK);
    assert_true(zmsg_size(reply) >= 7 + 7);
    zmsg_destroy(&reply);
}

/* --- Beginning and end ------------------------------------------------------------- */

static void a_failed_init_reaches_the_creator(void **state)
{
    (void)state;
    for (int said = 0; said < 2; said++) {
        probe_config bad = {.init_err = WEIR_EREFUSED, .say_why = said};
        member m;
        fill_node(&m, &bad.node, "bad");
        m.actor = zactor_new(probe_actor, &bad);
        weir_handover_take(&m.report);
        assert_int_equal(m.report.err, WEIR_EREFUSED);
        assert_true(m.report.text[0]);
        if (said) assert_string_equal(m.report.where, "web.lua:1");
        /*  Neither question nor end waits for a thread that has left.         */
        assert_int_equal(weir_actor_ask(m.actor, NULL, "HELP", NULL), WEIR_ECLOSED);
        assert_int_equal(weir_actor_stop(&m.actor, &m.ended, 5000), WEIR_OK);
        assert_null(m.actor);
        sem_destroy(&m.ended);
    }
}

static int count_threads(void)
{
    int threads = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *e; (e = readdir(folder));)
        threads += e->d_name[0] != '.';
    closedir(folder);
    return threads;
}

static void an_end_leaves_no_thread_behind(void **state)
{
    (void)state;
    int before = count_threads();
    weir_clock_advance(1); // a step at 0 would be none
    for (int i = 0; i < 20; i++) {
        probe_config c = {.fd = -1};
        member m;
        fill_node(&m, &c.node, "short");
        open_member(&m, probe_actor, &c);
        start(&m);
        stop(&m);
        assert_int_equal(weir_vitals_step_us(&m.vitals), 0); // it is in no call any more
    }
    wait_until(count_threads() <= before);
}

static void an_end_gives_up_on_a_thread_that_is_stuck(void **state)
{
    (void)state;
    zmsg_t *command = zmsg_new();
    zmsg_addstr(command, "SLEEP");
    zmsg_addstr(command, "1500");
    zmsg_send(&command, owner.actor);
    assert_int_equal(weir_actor_stop(&owner.actor, &owner.ended, 20), WEIR_ETIMEOUT);
    assert_non_null(owner.actor);
    stop(&owner); // it was only slow
}

static void it_gives_up_as_well_when_a_thread_of_the_actor_is_stuck(void **state)
{
    (void)state;
    /*  Of their own: ThreadSanitizer does not see that the pipe's end orders their last
       use by the actor, which posts no `ended`, before another one's.               */
    static probe_config c = {.fd = -1};
    static member m;
    fill_node(&m, &c.node, "stuck");
    open_member(&m, probe_actor, &c);
    assert_int_equal(weir_actor_ask(m.actor, NULL, "STICK", NULL), WEIR_OK);
    assert_int_equal(weir_actor_stop(&m.actor, &m.ended, 50), WEIR_ETIMEOUT);
    assert_non_null(m.actor);
    zactor_destroy(&m.actor);
    sem_destroy(&m.ended);
}

/*  A late reply counts as owed, and is not taken for the next command's.        */
static void a_question_has_a_deadline(void **state)
{
    (void)state;
    weir_patience patience = {.timeout_ms = 20};
    zmsg_t *reply;
    assert_int_equal(
        weir_actor_ask_within(owner.actor, &patience, &reply, "SLEEP", "1500", NULL),
        WEIR_ETIMEOUT);
    assert_null(reply);
    assert_int_equal(patience.owed, 1);
    patience.timeout_ms = 0; // sent, and not waited for
    assert_int_equal(weir_actor_ask_within(owner.actor, &patience, NULL, "REFUSE", NULL),
                     WEIR_ETIMEOUT);
    assert_int_equal(patience.owed, 2);
    patience.timeout_ms = 60000;
    assert_int_equal(
        weir_actor_ask_within(owner.actor, &patience, &reply, "ECHO", "mine", NULL),
        WEIR_OK);
    char *text = zmsg_popstr(reply);
    assert_string_equal(text, "mine");
    zstr_free(&text);
    zmsg_destroy(&reply);
    assert_int_equal(patience.owed, 0);
}

static void what_does_not_answer_is_not_asked_for_ever(void **state)
{
    (void)state;
    weir_patience patience = {.timeout_ms = 0};
    weir_actor_ask_within(owner.actor, &patience, NULL, "SLEEP", "1500", NULL);
    for (int i = 0; i < 2000; i++) // more than the pipe holds
        weir_actor_ask_within(owner.actor, &patience, NULL, "ECHO", NULL);
    assert_in_range(patience.owed, 2, 100);
    stop(&owner); // what it owes is in nobody's way
}

static const int left_alone[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};

static void expect_handlers(void (*handler)(int))
{
    for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++) {
        struct sigaction action;
        assert_int_equal(sigaction(left_alone[i], NULL, &action), 0);
        assert_ptr_equal(action.sa_handler, handler);
    }
}

/*  Whether every thread but this one blocks SIGINT.                           */
static bool only_this_thread_takes_signals(void)
{
    DIR *tasks = opendir("/proc/self/task");
    bool good = true;
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[300], line[256];
        unsigned long long blocked = 0;
        int id = atoi(entry->d_name); // 0: "." and ".."
        snprintf(path, sizeof path, "/proc/self/task/%d/status", id);
        FILE *file = id == 0 || id == (int)getpid() ? NULL : fopen(path, "r");
        if (!file) continue;
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
                good = good && (blocked >> (SIGINT - 1) & 1);
        fclose(file);
    }
    closedir(tasks);
    return good;
}

static void signals_are_left_alone(void **state)
{
    (void)state;
    member m;
    trap_config c = {.hold = false};
    zsys_init(); // CZMQ sets its handlers now, and ours take their place
    for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++)
        signal(left_alone[i], SIG_IGN);
    fill_node(&m, &c.node, "signals");
    open_member(&m, trap_actor, &c);
    listen_at(&m, "inproc://signals");
    assert_true(only_this_thread_takes_signals());
    stop(&m);
    expect_handlers(SIG_IGN);
    for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++)
        signal(left_alone[i], SIG_DFL);
}

/* --- Timers and watches ------------------------------------------------------------ */

static void timers_follow_the_virtual_clock(void **state)
{
    (void)state;
    assert_int_equal(ask("TIMER", "5000000"), WEIR_OK);
    weir_clock_advance(4999999);
    ask("HELP", NULL);
    assert_int_equal(config.fired, 0);
    weir_clock_advance(1);
    wait_until(config.fired == 1);
    weir_clock_advance(100000000);
    ask("HELP", NULL);
    assert_int_equal(config.fired, 1); // once
    assert_int_equal(ask("TIMER", "1000"), WEIR_OK);
    assert_int_equal(ask("TIMER", "9000"), WEIR_OK); // moved
    weir_clock_advance(5000);
    ask("HELP", NULL);
    assert_int_equal(config.fired, 1);
    assert_int_equal(ask("TIMER", "-1"), WEIR_OK); // stopped
    weir_clock_advance(50000);
    ask("HELP", NULL);
    assert_int_equal(config.fired, 1);
    assert_int_equal(ask("TIMER", "-1"), WEIR_OK);
}

static void descriptors_are_watched_until_they_are_not(void **state)
{
    (void)state;
    assert_int_equal(ask("WATCH", NULL), WEIR_OK);
    eventfd_write(config.fd, 1);
    wait_until(config.readable == 1);
    assert_int_equal(ask("UNWATCH", NULL), WEIR_OK);
    eventfd_write(config.fd, 1);
    ask("HELP", NULL);
    assert_int_equal(config.readable, 1);
    assert_int_equal(ask("WATCH", NULL), WEIR_OK);
    wait_until(config.readable == 2);
}

static int64_t cpu_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

static void a_failed_actor_is_still_and_still_answers(void **state)
{
    (void)state;
    assert_int_equal(ask("START", NULL), WEIR_OK);
    assert_int_equal(ask("TIMER", "1000"), WEIR_OK);
    assert_int_equal(ask("FAIL", NULL), WEIR_OK);
    eventfd_write(config.fd, 1); // and nobody reads it
    wait_until(owner.vitals.state == WEIR_STATE_FAILED);
    assert_string_equal(owner.vitals.reason.text, "as asked");
    assert_string_equal(owner.vitals.reason.where, "here");
    int turns = config.turns;
    weir_clock_advance(1000000);
    int64_t before = cpu_us();
    zclock_sleep(100);
    assert_true(cpu_us() - before < 60000); // it does not spin
    assert_int_equal(ask("HELP", NULL), WEIR_OK);
    assert_int_equal(config.fired, 0);
    assert_int_equal(config.turns, turns);
}

/*  Else nobody would start it again.                                          */
static void who_fails_before_the_start_has_failed_after_it(void **state)
{
    (void)state;
    assert_int_equal(ask("FAIL", NULL), WEIR_OK);
    eventfd_write(config.fd, 1);
    wait_until(owner.vitals.state == WEIR_STATE_FAILED);
    assert_int_equal(ask("START", NULL), WEIR_OK);
    assert_int_equal(owner.vitals.state, WEIR_STATE_FAILED);
}

/* --- Links ------------------------------------------------------------------------- */

static uint64_t made;

static const char *make_some(uint64_t n, char text[256])
{
    if (n >= made) return NULL;
    snprintf(text, 256, "{\"n\":%d}", (int)n);
    return text;
}

static void an_outlet_that_nobody_reads_cannot_start(void **state)
{
    (void)state;
    feed_config c = {.make = make_some, .block_records = 1, .allowed = UINT64_MAX};
    member m;
    made = 3;
    fill_node(&m, &c.node, "in");
    open_member(&m, feed_actor, &c);
    zmsg_t *reply = NULL;
    assert_int_equal(weir_actor_ask(m.actor, &reply, "START", NULL), WEIR_EINVAL);
    char *text = zmsg_popstr(reply);
    assert_non_null(strstr(text, "'in'"));
    zstr_free(&text);
    zmsg_destroy(&reply);
    assert_int_equal(weir_actor_ask(m.actor, NULL, "CONNECT", "out", "inproc://x", NULL),
                     WEIR_ENOTFOUND);
    stop(&m);
    assert_int_equal(c.committed, 0);
}

static void open_pair(feed_config *c, member *in, trap_config *t, member *out)
{
    static int pairs;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://pair-%d", ++pairs);
    fill_node(out, &t->node, "out");
    open_member(out, trap_actor, t);
    listen_at(out, endpoint);
    start(out);
    fill_node(in, &c->node, "in");
    open_member(in, feed_actor, c);
    connect_to(in, "in", endpoint);
    start(in);
}

static void commits_follow_acknowledgements(void **state)
{
    (void)state;
    feed_config c = {.make = make_some, .block_records = 2, .allowed = UINT64_MAX};
    trap_config t = {.hold = true};
    member in, out;
    made = 20;
    open_pair(&c, &in, &t, &out);
    wait_until(t.blocks == 10);
    assert_int_equal(c.committed, 0);
    assert_int_equal(in.vitals.state, WEIR_STATE_RUNNING);
    weir_actor_ask(out.actor, NULL, "RELEASE", "3", NULL);
    wait_until(c.committed == 3);
    wait_until(weir_count_get(&in.vitals, WEIR_COUNT_OUT) == 6);
    wait_until(count_of(&in, WEIR_COUNT_RESIDENT) == 14);
    weir_actor_ask(out.actor, NULL, "RELEASE", "7", NULL);
    wait_until(in.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(c.committed, 10);
    stop(&in);
    stop(&out);
    assert_balanced(&in);
    assert_balanced(&out);
    assert_int_equal(count_of(&in, WEIR_COUNT_RESIDENT), 0);
}

static void a_failure_stops_acknowledgement(void **state)
{
    (void)state;
    feed_config c = {.make = make_some, .block_records = 2, .allowed = UINT64_MAX};
    trap_config t = {.fail_at = 1};
    member in, out;
    made = 200;
    open_pair(&c, &in, &t, &out);
    wait_until(out.vitals.state == WEIR_STATE_FAILED);
    zclock_sleep(50);
    assert_int_equal(c.committed, 0);
    assert_int_equal(t.blocks, 1);
    assert_int_equal(count_of(&out, WEIR_COUNT_ACKS), 0);
    stop(&in);
    stop(&out);
    assert_balanced(&in);
}

static void acknowledgements_after_a_failure_count_for_nothing(void **state)
{
    (void)state;
    feed_config c = {.make = make_some, .block_records = 2, .allowed = 4};
    trap_config t = {.hold = true, .fail_at = 5};
    member in, out;
    made = 200;
    open_pair(&c, &in, &t, &out);
    wait_until(t.blocks == 4);
    c.allowed = 5;
    weir_actor_ask(in.actor, NULL, "LOOK", NULL);
    wait_until(out.vitals.state == WEIR_STATE_FAILED);
    weir_actor_ask(out.actor, NULL, "RELEASE", "4", NULL);
    zclock_sleep(50);
    assert_int_equal(c.committed, 0);
    stop(&in);
    stop(&out);
}

static void a_draining_source_ends_when_all_is_safe(void **state)
{
    (void)state;
    feed_config c = {.make = make_some, .block_records = 2, .allowed = 4};
    trap_config t = {.hold = true};
    member in, out;
    made = 200;
    open_pair(&c, &in, &t, &out);
    wait_until(t.blocks == 4);
    assert_int_equal(weir_actor_ask(in.actor, NULL, "DRAIN", NULL), WEIR_OK);
    assert_int_equal(weir_actor_ask(in.actor, NULL, "DRAIN", NULL), WEIR_OK);
    assert_int_equal(in.vitals.state, WEIR_STATE_RUNNING);
    weir_actor_ask(out.actor, NULL, "RELEASE", "4", NULL);
    wait_until(in.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(c.committed, 4);
    stop(&in);
    stop(&out);
}

/*  What is no frame of ours ends its connection and nothing else.             */
static void strangers_do_not_disturb(void **state)
{
    (void)state;
    trap_config t = {.hold = false};
    member out;
    fill_node(&out, &t.node, "out");
    open_member(&out, trap_actor, &t);
    listen_at(&out, "inproc://strangers");
    start(&out);
    zsock_t *stranger = zsock_new_dealer(">inproc://strangers");
    zsock_set_rcvtimeo(stranger, 60000);
    zstr_send(stranger, "hello");
    zmsg_t *answer = zmsg_recv(stranger);
    assert_non_null(answer);
    weir_frame frame;
    weir_buffer scratch = {0};
    zframe_t *head = zmsg_first(answer);
    weir_handover_take(zframe_data(head));
    assert_int_equal(
        weir_frame_read(&frame, zframe_data(head), zframe_size(head), &scratch), WEIR_OK);
    assert_int_equal(frame.type, WEIR_CLOSE);
    zmsg_destroy(&answer);
    zstr_sendx(stranger, "a", "b", "c", NULL);
    answer = zmsg_recv(stranger);
    assert_non_null(answer);
    zmsg_destroy(&answer);
    zsock_destroy(&stranger);
    weir_buffer_fini(&scratch);
    assert_int_equal(weir_actor_ask(out.actor, NULL, "HELP", NULL), WEIR_OK);
    assert_int_equal(out.vitals.state, WEIR_STATE_RUNNING);
    stop(&out);
}

static void virtual_time_comes_first(void **state)
{
    (void)state;
    weir_clock_go_virtual(1000);
    assert_true(weir_clock_is_virtual());
}

int main(void)
{
    /*  Whoever started this may have had them ignored, as nohup does.         */
    for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++)
        signal(left_alone[i], SIG_DFL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(virtual_time_comes_first),
        cmocka_unit_test(signals_are_left_alone),
        cmocka_unit_test_setup_teardown(every_command_gets_exactly_one_reply, open_probe,
                                        close_probe),
        cmocka_unit_test_setup_teardown(replies_carry_code_and_frames, open_probe,
                                        close_probe),
        cmocka_unit_test(a_failed_init_reaches_the_creator),
        cmocka_unit_test(an_end_leaves_no_thread_behind),
        cmocka_unit_test(it_gives_up_as_well_when_a_thread_of_the_actor_is_stuck),
        cmocka_unit_test_setup_teardown(an_end_gives_up_on_a_thread_that_is_stuck,
                                        open_probe, close_probe),
        cmocka_unit_test_setup_teardown(a_question_has_a_deadline, open_probe,
                                        close_probe),
        cmocka_unit_test_setup_teardown(what_does_not_answer_is_not_asked_for_ever,
                                        open_probe, close_probe),
        cmocka_unit_test_setup_teardown(timers_follow_the_virtual_clock, open_probe,
                                        close_probe),
        cmocka_unit_test_setup_teardown(descriptors_are_watched_until_they_are_not,
                                        open_probe, close_probe),
        cmocka_unit_test_setup_teardown(who_fails_before_the_start_has_failed_after_it,
                                        open_probe, close_probe),
        cmocka_unit_test_setup_teardown(a_failed_actor_is_still_and_still_answers,
                                        open_probe, close_probe),
        cmocka_unit_test(an_outlet_that_nobody_reads_cannot_start),
        cmocka_unit_test(commits_follow_acknowledgements),
        cmocka_unit_test(a_failure_stops_acknowledgement),
        cmocka_unit_test(acknowledgements_after_a_failure_count_for_nothing),
        cmocka_unit_test(a_draining_source_ends_when_all_is_safe),
        cmocka_unit_test(strangers_do_not_disturb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
