/*  The actors that hand blocks on as they are, and what becomes of the records that a
    reader in another process refuses.                                         */
#include "tests/unit/help_actor.h"
#include "tests/unit/help_folder.h"
#include "actors/sink_link.h"
#include "runtime/relay.h"

/* --- A relay between a feed and a trap --------------------------------------------- */

typedef struct {
    weir_node node;
    weir_screen_config screen;
} relay_config;

typedef struct {
    weir_relay *relay;
} relay_actor;

static weir_err relay_init(void *arg, weir_actor *kit, const void *config,
                           weir_report *report)
{
    relay_actor *self = arg;
    const relay_config *c = config;
    return weir_relay_new(&self->relay, kit, weir_actor_port(kit, c->node.name),
                          &c->screen, report);
}

static void relay_fini(void *arg)
{
    relay_actor *self = arg;
    weir_relay_destroy(&self->relay);
}

static void relay_recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    relay_actor *self = arg;
    weir_relay_take(self->relay, entry, block);
}

static void relay_room(void *arg)
{
    relay_actor *self = arg;
    weir_relay_room(self->relay);
}

static void run_relay(zsock_t *pipe, void *config);
static const weir_class relay_class = {
    .name = "test.relay",
    .help = "hands blocks on",
    .actor = run_relay,
    .size = sizeof(relay_actor),
    .config_size = sizeof(relay_config),
    .options = no_options,
    .inlet = true,
    .init = relay_init,
    .fini = relay_fini,
    .recv_block = relay_recv_block,
    .room = relay_room,
};

static void run_relay(zsock_t *pipe, void *config)
{
    weir_actor_run(&relay_class, pipe, config);
}

/* --- Set-up ------------------------------------------------------------------------ */

static uint64_t made;

static const char *make_numbers(uint64_t n, char text[256])
{
    if (n >= made) return NULL;
    snprintf(text, 256, "{\"n\":%d}", (int)n);
    return text;
}

static size_t count_dead(void)
{
    char path[128];
    size_t lines = 0;
    snprintf(path, sizeof path, "%s/dead.ndjson", folder);
    FILE *file = fopen(path, "r");
    for (int c; file && (c = fgetc(file)) != EOF;)
        lines += c == '\n';
    if (file) fclose(file);
    return lines;
}

typedef struct {
    feed_config feed;
    relay_config relay;
    trap_config trap;
    member in, middle, out;
} chain;

static void open_chain(chain *c)
{
    static int chains;
    char first[64], second[64];
    snprintf(first, sizeof first, "inproc://relay-%d-a", ++chains);
    snprintf(second, sizeof second, "inproc://relay-%d-b", chains);
    fill_node(&c->out, &c->trap.node, "out");
    open_member(&c->out, trap_actor, &c->trap);
    listen_at(&c->out, second);
    start(&c->out);
    fill_node(&c->middle, &c->relay.node, "middle");
    c->relay.node.state_dir = folder;
    open_member(&c->middle, run_relay, &c->relay);
    listen_at(&c->middle, first);
    connect_to(&c->middle, "middle", second);
    start(&c->middle);
    fill_node(&c->in, &c->feed.node, "in");
    open_member(&c->in, feed_actor, &c->feed);
    connect_to(&c->in, "in", first);
    start(&c->in);
}

static void close_chain(chain *c)
{
    stop(&c->in);
    stop(&c->middle);
    stop(&c->out);
    assert_balanced(&c->in);
    assert_balanced(&c->middle);
    assert_balanced(&c->out);
}

/* --- Handing on -------------------------------------------------------------------- */

static void
what_passes_is_done_and_the_rest_is_dead_before_it_is_acknowledged(void **state)
{
    (void)state;
    chain c = {.feed = {.make = make_numbers, .block_records = 5, .allowed = UINT64_MAX},
               .relay.screen = {"n >= 5", WEIR_ACTION_DEAD, WEIR_UNKNOWN_DEAD}};
    made = 20;
    open_chain(&c);
    wait_until(c.in.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(c.feed.committed, 4);
    assert_int_equal(count_dead(), 5);
    assert_int_equal(c.trap.records, 15);
    assert_int_equal(c.trap.blocks, 3); // of the first one nothing is left
    assert_int_equal(count_of(&c.middle, WEIR_COUNT_DEAD), 5);
    assert_int_equal(count_of(&c.middle, WEIR_COUNT_DONE), 15);
    close_chain(&c);
}

static struct {
    int next;
    bool disorder;
} seen;

static void look_at_number(void *arg, const weir_record *record, const weir_run *origin)
{
    (void)arg;
    (void)origin;
    char text[32] = "";
    memcpy(text, record->data, record->size < 31 ? record->size : 31);
    if (atoi(text + 5) != seen.next++) seen.disorder = true;
}

static void
what_finds_no_room_waits_in_its_order_and_nothing_is_acknowledged(void **state)
{
    (void)state;
    chain c = {.feed = {.make = make_numbers, .block_records = 1, .allowed = UINT64_MAX},
               .trap = {.hold = true, .look = look_at_number}};
    c.relay.node.window_bytes = 8192; // some 15 blocks each way
    made = 200;
    seen.next = 0;
    seen.disorder = false;
    open_chain(&c);
    wait_until(count_of(&c.middle, WEIR_COUNT_HOLDS) > 0);
    assert_true(c.trap.blocks < 50);
    assert_int_equal(c.feed.committed, 0);
    wait_until((weir_actor_ask(c.out.actor, NULL, "RELEASE", "7", NULL),
                c.in.vitals.state == WEIR_STATE_ENDED));
    assert_int_equal(seen.next, 200);
    assert_false(seen.disorder);
    assert_int_equal(c.feed.committed, 200);
    close_chain(&c);
}

static void what_still_waits_at_the_end_is_given_up_unacknowledged(void **state)
{
    (void)state;
    chain c = {.feed = {.make = make_numbers, .block_records = 1, .allowed = UINT64_MAX},
               .trap = {.hold = true}};
    c.relay.node.window_bytes = 8192;
    made = 200;
    open_chain(&c);
    wait_until(count_of(&c.middle, WEIR_COUNT_HOLDS) > 0);
    stop(&c.middle);
    stop(&c.in);
    stop(&c.out);
    assert_int_equal(c.feed.committed, 0);
}

/* --- An inlet in another process that refuses -------------------------------------- */

typedef struct {
    feed_config feed;
    weir_sink_link_config link;
    member in, out;
    weir_realm *realm;
    weir_socket *inlet;
    char endpoint[128];
} refusal;

static void open_refusal(refusal *r, weir_on_error on_error)
{
    char local[64];
    static int refusals;
    weir_report report = {0};
    snprintf(local, sizeof local, "inproc://refusal-%d", ++refusals);
    snprintf(r->endpoint, sizeof r->endpoint, "ipc://%s/inlet", folder);
    assert_int_equal(weir_realm_new(&r->realm, NULL, &report), WEIR_OK);
    weir_endpoint at = {.endpoint = r->endpoint, .realm = r->realm};
    assert_int_equal(weir_socket_listen(&r->inlet, &at, &report), WEIR_OK);
    r->link = weir_sink_link_defaults;
    r->link.connect = r->endpoint;
    r->link.on_error = on_error;
    fill_node(&r->out, &r->link.node, "out");
    r->link.node.state_dir = folder;
    r->link.node.realm = r->realm;
    open_member(&r->out, weir_sink_link, &r->link);
    listen_at(&r->out, local);
    start(&r->out);
    r->feed =
        (feed_config){.make = make_numbers, .block_records = 2, .allowed = UINT64_MAX};
    made = 6;
    fill_node(&r->in, &r->feed.node, "in");
    open_member(&r->in, feed_actor, &r->feed);
    connect_to(&r->in, "in", local);
    start(&r->in);
}

static void close_refusal(refusal *r)
{
    stop(&r->in);
    stop(&r->out);
    weir_socket_close(&r->inlet);
    weir_realm_destroy(&r->realm);
    assert_balanced(&r->in);
    assert_balanced(&r->out);
}

static void answer(refusal *r, const weir_message *to, weir_frame frame)
{
    assert_int_equal(weir_socket_send(r->inlet, to->id, to->id_size, &frame, NULL),
                     WEIR_OK);
}

/*  Welcomes the outlet, and takes its blocks until the last, of which it speaks.  */
static void take_blocks(refusal *r, uint64_t last, weir_message *message)
{
    int64_t until_ms = zclock_mono() + 60000;
    for (message->frame.sequence = 0; zclock_mono() < until_ms; zclock_sleep(1)) {
        weir_block *body;
        while (weir_socket_recv(r->inlet, message, &body) == WEIR_OK) {
            weir_block_destroy(&body);
            if (message->frame.type == WEIR_HELLO)
                answer(
                    r, message,
                    (weir_frame){.type = WEIR_WELCOME, .version = 1, .bytes = 1 << 20});
            if (message->frame.type == WEIR_BLOCK && message->frame.sequence == last)
                return;
        }
    }
    fail_msg("block %d did not come", (int)last);
}

/*  The second of three blocks is refused for good, then all are safe.         */
static void refuse_the_second(refusal *r)
{
    weir_message message;
    take_blocks(r, 3, &message);
    answer(
        r, &message,
        (weir_frame){.type = WEIR_NACK, .sequence = 2, .code = "NO", .text = "not it"});
    answer(r, &message, (weir_frame){.type = WEIR_ACK, .sequence = 3});
}

static void refused_records_are_dead_letters_before_they_are_acknowledged(void **state)
{
    (void)state;
    refusal r = {0};
    open_refusal(&r, WEIR_ON_ERROR_DEAD);
    refuse_the_second(&r);
    wait_until(r.in.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(r.feed.committed, 3);
    assert_int_equal(count_dead(), 2);
    assert_int_equal(count_of(&r.out, WEIR_COUNT_DEAD), 2);
    assert_int_equal(count_of(&r.out, WEIR_COUNT_DONE), 4);
    assert_int_equal(count_of(&r.out, WEIR_COUNT_OUT), 4);
    close_refusal(&r);
}

static void without_its_dead_letter_a_refused_block_is_never_acknowledged(void **state)
{
    (void)state;
    refusal r = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/dead.ndjson", folder);
    assert_int_equal(mkdir(path, 0700), 0); // no file can be opened there
    open_refusal(&r, WEIR_ON_ERROR_DEAD);
    refuse_the_second(&r);
    wait_until(r.out.vitals.state == WEIR_STATE_FAILED);
    assert_true(r.feed.committed <= 1);
    close_refusal(&r);
    rmdir(path);
}

static void refused_records_may_be_left_out(void **state)
{
    (void)state;
    refusal r = {0};
    open_refusal(&r, WEIR_ON_ERROR_DROP);
    refuse_the_second(&r);
    wait_until(r.in.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(count_dead(), 0);
    assert_int_equal(count_of(&r.out, WEIR_COUNT_SKIPPED), 2);
    assert_int_equal(count_of(&r.out, WEIR_COUNT_DONE), 4);
    close_refusal(&r);
}

static void a_refusal_may_stop_and_nothing_behind_it_is_acknowledged(void **state)
{
    (void)state;
    refusal r = {0};
    open_refusal(&r, WEIR_ON_ERROR_STOP);
    refuse_the_second(&r);
    wait_until(r.out.vitals.state == WEIR_STATE_FAILED);
    assert_non_null(strstr(r.out.vitals.reason.text, "not it"));
    assert_true(r.feed.committed <= 1);
    close_refusal(&r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(what_passes_is_done_and_the_rest_is_dead_before_it_is_acknowledged),
        TEST(what_finds_no_room_waits_in_its_order_and_nothing_is_acknowledged),
        TEST(what_still_waits_at_the_end_is_given_up_unacknowledged),
        TEST(refused_records_are_dead_letters_before_they_are_acknowledged),
        TEST(without_its_dead_letter_a_refused_block_is_never_acknowledged),
        TEST(refused_records_may_be_left_out),
        TEST(a_refusal_may_stop_and_nothing_behind_it_is_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
