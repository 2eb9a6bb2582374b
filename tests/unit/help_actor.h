/*  help_actor: what tests of actors share: a source that a test feeds block by block, a
    sink that holds its acknowledgements, and the wiring of a chain.

    Include it in one test program each; everything is static.                 */
#pragma once
#include "runtime/actor.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/socket.h"
#include "tests/unit/help_wait.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <cmocka.h>
#include <unistd.h>

#define UNUSED_FUNCTION __attribute__((unused))

/* --- A source that is fed ---------------------------------------------------------- */

typedef struct {
    weir_node node;
    const char *(*make)(uint64_t n, char text[256]); // payload n; NULL: the end
    uint32_t block_records;                          // records of a block
    _Atomic uint64_t committed;                      // blocks
    _Atomic uint64_t allowed; // blocks that may be sent; UINT64_MAX: all
} feed_config;

typedef struct {
    weir_actor *kit;
    feed_config *config;
    int port;
    weir_lane lane;
    uint64_t next, blocks;
    bool ended;
} feed;

static weir_err feed_init(void *arg, weir_actor *kit, const void *config,
                          weir_report *report)
{
    (void)report;
    feed *self = arg;
    self->kit = kit;
    self->config = (feed_config *)(uintptr_t)config;
    self->port = weir_actor_port(kit, weir_actor_node(kit)->name);
    return WEIR_OK;
}

static void feed_fini(void *arg)
{
    feed *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
}

static bool feed_turn(void *arg)
{
    feed *self = arg;
    char text[256];
    if (self->ended || self->blocks >= self->config->allowed) return false;
    if (!weir_actor_has_room(self->kit)) return false;
    weir_builder builder = {.ledger = weir_actor_node(self->kit)->ledger,
                            .target = weir_actor_node(self->kit)->block_bytes};
    weir_run origin = {.source = weir_actor_node(self->kit)->name, .label = "feed"};
    uint32_t records = 0;
    for (; records < self->config->block_records; records++) {
        const char *payload = self->config->make(self->next, text);
        if (!payload) {
            self->ended = true;
            break;
        }
        weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)payload,
                                 strlen(payload), &origin);
        self->next++;
    }
    if (records) {
        weir_block *block = weir_builder_seal(&builder);
        weir_entry *entry =
            weir_actor_open(self->kit, &self->lane, records, ++self->blocks, 0);
        entry->fates.done = records;
        weir_actor_send(self->kit, self->port, &block, entry);
        weir_actor_done(self->kit, entry);
    }
    weir_builder_fini(&builder);
    if (self->ended) weir_actor_end(self->kit);
    return !self->ended;
}

static weir_err feed_commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)report;
    feed *self = arg;
    assert(entry->position > self->config->committed);
    self->config->committed = entry->position;
    return WEIR_OK;
}

static void feed_wake(void *arg)
{
    (void)arg;
}

/*  A look at `allowed` comes with every message; this makes one.              */
static weir_err feed_look(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    feed *self = arg;
    weir_actor_timer(self->kit, feed_wake, 0);
    return WEIR_OK;
}

static void feed_drain(void *arg)
{
    feed *self = arg;
    self->ended = true;
    weir_actor_end(self->kit);
}

static void feed_actor(zsock_t *pipe, void *config);
static const weir_option no_options[] = {{.name = NULL}};
static const weir_command feed_commands[] = {
    {"LOOK", feed_look, "-> ; reads what is allowed now"},
    {NULL, NULL, NULL},
};
static const weir_class feed_class = {
    .name = "test.feed",
    .help = "sends what a test makes",
    .actor = feed_actor,
    .size = sizeof(feed),
    .config_size = sizeof(feed_config),
    .options = no_options,
    .commands = feed_commands,
    .source = true,
    .init = feed_init,
    .fini = feed_fini,
    .turn = feed_turn,
    .commit = feed_commit,
    .drain = feed_drain,
};

static void feed_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&feed_class, pipe, config);
}

/* --- A sink that holds ------------------------------------------------------------- */

#define HELD_MAX 65536

typedef struct {
    weir_node node;
    bool hold;        // RELEASE n acknowledges
    uint64_t fail_at; // the block (from 1) at which it stops; 0: none
    void (*look)(void *arg, const weir_record *record, const weir_run *origin);
    void *arg;
    _Atomic uint64_t blocks, records;
    const uint8_t *_Atomic body; // of the last block
} trap_config;

typedef struct {
    weir_actor *kit;
    trap_config *config;
    weir_entry *held[HELD_MAX];
    size_t first, count;
} trap;

static weir_err trap_init(void *arg, weir_actor *kit, const void *config,
                          weir_report *report)
{
    (void)report;
    trap *self = arg;
    self->kit = kit;
    self->config = (trap_config *)(uintptr_t)config;
    return WEIR_OK;
}

static void trap_recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    trap *self = arg;
    trap_config *c = self->config;
    if (c->blocks + 1 == c->fail_at) {
        c->blocks++;
        weir_actor_fail(self->kit, WEIR_EREFUSED, NULL, "block %d is too much",
                        (int)c->fail_at);
        return;
    }
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    while (weir_iterator_next(&walk, &record, &origin)) {
        if (c->look) c->look(c->arg, &record, origin);
        c->records++;
    }
    c->body = weir_block_body(block);
    entry->fates.done = entry->records;
    c->blocks++;
    if (!c->hold) {
        weir_actor_done(self->kit, entry);
        return;
    }
    assert(self->count < HELD_MAX);
    self->held[self->count++] = entry;
}

static weir_err trap_release(void *arg, zmsg_t *args, zmsg_t *reply)
{
    (void)reply;
    trap *self = arg;
    char *text = zmsg_popstr(args);
    for (int n = text ? atoi(text) : 0; n > 0 && self->first < self->count; n--)
        weir_actor_done(self->kit, self->held[self->first++]);
    zstr_free(&text);
    return WEIR_OK;
}

static void trap_actor(zsock_t *pipe, void *config);
static const weir_command trap_commands[] = {
    {"RELEASE", trap_release, "n -> ; acknowledges n blocks"},
    {NULL, NULL, NULL},
};
static const weir_class trap_class = {
    .name = "test.trap",
    .help = "takes blocks and may hold them",
    .actor = trap_actor,
    .size = sizeof(trap),
    .config_size = sizeof(trap_config),
    .options = no_options,
    .commands = trap_commands,
    .inlet = true,
    .init = trap_init,
    .recv_block = trap_recv_block,
};

static void trap_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&trap_class, pipe, config);
}

/* --- Wiring ------------------------------------------------------------------------ */

/*  An actor of a test, with what its owner keeps beside it.                   */
typedef struct {
    zactor_t *actor;
    weir_vitals vitals;
    weir_report report;
    sem_t ended;
} member;

UNUSED_FUNCTION static void fill_node(member *self, weir_node *node, const char *name)
{
    *self = (member){.vitals = WEIR_VITALS_INIT};
    sem_init(&self->ended, 0, 0);
    node->name = name;
    node->vitals = &self->vitals;
    node->report = &self->report;
    node->ended = &self->ended;
}

/*  Starts the thread; config begins with a weir_node.                         */
UNUSED_FUNCTION static void open_member(member *self, zactor_fn *actor, void *config)
{
    self->actor = zactor_new(actor, config);
    assert_non_null(self->actor);
    weir_handover_take(&self->report);
    if (self->report.err) fail_msg("%s", self->report.text);
}

UNUSED_FUNCTION static void listen_at(member *self, const char *endpoint)
{
    assert_int_equal(weir_actor_ask(self->actor, NULL, "LISTEN", endpoint, NULL),
                     WEIR_OK);
}

UNUSED_FUNCTION static void connect_to(member *self, const char *port,
                                       const char *endpoint)
{
    assert_int_equal(weir_actor_ask(self->actor, NULL, "CONNECT", port, endpoint, NULL),
                     WEIR_OK);
}

UNUSED_FUNCTION static void start(member *self)
{
    assert_int_equal(weir_actor_ask(self->actor, NULL, "START", NULL), WEIR_OK);
}

UNUSED_FUNCTION static void stop(member *self)
{
    assert_int_equal(weir_actor_stop(&self->actor, &self->ended, 60000), WEIR_OK);
    assert_null(self->actor);
    sem_destroy(&self->ended);
}

UNUSED_FUNCTION static uint64_t count_of(const member *self, weir_count count)
{
    return weir_count_get(&self->vitals, count);
}

/*  Every record is somewhere: the sums of vitals.h.                            */
UNUSED_FUNCTION static void assert_balanced(const member *self)
{
    assert_int_equal(
        count_of(self, WEIR_COUNT_IN),
        count_of(self, WEIR_COUNT_DONE) + count_of(self, WEIR_COUNT_DROPPED) +
            count_of(self, WEIR_COUNT_FILTERED) + count_of(self, WEIR_COUNT_DEAD) +
            count_of(self, WEIR_COUNT_SKIPPED) + count_of(self, WEIR_COUNT_SHED) +
            count_of(self, WEIR_COUNT_RESIDENT));
}
