#include "actors/source_generate.h"
#include "runtime/clock.h"
#include <inttypes.h>

const weir_source_generate_config weir_source_generate_defaults = {
    .seed = 1,
    .count = WEIR_FOREVER,
    .intake = WEIR_INTAKE_DEFAULTS,
};

#define PIECES_A_TURN 1024

typedef struct {
    weir_actor *kit;
    const weir_source_generate_config *config;
    weir_intake *intake;
    weir_lane lane;
    weir_buffer text; // of the record being made
    uint64_t next;    // number of the next record
    bool ended;
} source_generate;

/* --- Requests ---------------------------------------------------------------------- */

static const char *const methods[] = {"GET", "GET", "GET", "GET", "GET", "POST", "HEAD"};

static const char *const paths[] = {
    "/",          "/favicon.ico",   "/images/logo.png",     "/blog/2015/05/flows",
    "/style.css", "/api/v1/orders", "/api/v1/users/7/cart", "/articles/dynamic-dns",
    "/healthz",   "/search",        "/presentations/intro", "/downloads/weir.tar.gz",
};

static const char *const agents[] = {
    "Mozilla/5.0 (X11; Linux x86_64)",
    "Mozilla/5.0 (Windows NT 6.1)",
    "curl/7.38.0",
    "Googlebot/2.1",
};

static const int statuses[] = {200, 200, 200, 200, 200, 200, 200, 200,
                               200, 200, 301, 304, 304, 404, 403, 500};

/*  The first request's time: 2015-05-17T10:05:00Z.                            */
static const int64_t first_ms = 1431857100000;

/*  SplitMix64 (Steele, Lea, Flood 2014): a good hash of a counter.            */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

#define PICK(list, bits) ((list)[(bits) % (sizeof(list) / sizeof *(list))])

void weir_generate_request(weir_buffer *out, uint64_t seed, uint64_t n)
{
    uint64_t a = mix(seed ^ mix(n)), b = mix(a);
    int status = PICK(statuses, a >> 8);
    uint64_t bytes = status == 304 ? 0 : (b >> 20) % 200000;
    weir_buffer_printf(
        out,
        "{\"id\":%" PRIu64 ",\"ts\":%" PRId64
        ",\"ip\":\"10.%u.%u.%u\",\"user\":null,\"method\":\"%s\","
        "\"path\":\"%s\",\"status\":%d,\"bytes\":%" PRIu64 ",\"agent\":\"%s\"}",
        n, first_ms + (int64_t)n * 10 + (int64_t)(b & 7), (unsigned)(a >> 56) & 3,
        (unsigned)(a >> 40) & 15, (unsigned)(a >> 32) & 255, PICK(methods, a >> 16),
        PICK(paths, a >> 24), status, bytes, PICK(agents, b >> 8));
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_generate *self = arg;
    self->kit = kit;
    self->config = config;
    self->next = (uint64_t)weir_actor_vitals(kit)->position;
    int port = weir_actor_port(kit, weir_actor_node(kit)->name);
    return weir_intake_new(&self->intake, kit, port, &self->config->intake, report);
}

static void fini(void *arg)
{
    source_generate *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
    weir_intake_destroy(&self->intake);
    weir_buffer_fini(&self->text);
}

static void start(void *arg)
{
    source_generate *self = arg;
    if (self->config->count != WEIR_FOREVER)
        weir_actor_vitals(self->kit)->size_hint = self->config->count;
}

/* --- Making ------------------------------------------------------------------------ */

static void wake(void *arg)
{
    (void)arg; // turn () follows every wake-up
}

static void make_record(source_generate *self)
{
    self->text.size = 0;
    weir_generate_request(&self->text, (uint64_t)self->config->seed, self->next);
    weir_framed piece = {.data = self->text.data,
                         .size = self->text.size,
                         .whole_size = self->text.size,
                         .start = self->next,
                         .end = self->next + 1};
    self->next++;
    weir_intake_piece(self->intake, &self->lane, 0, "generate", &piece);
}

static bool turn(void *arg)
{
    source_generate *self = arg;
    int64_t wait_us = 0;
    for (int i = 0; i < PIECES_A_TURN && !self->ended; i++) {
        if (self->next >= (uint64_t)self->config->count) {
            self->ended = true;
            break;
        }
        if (!weir_intake_ready(self->intake, &wait_us)) {
            if (wait_us) weir_intake_flush(self->intake);
            if (wait_us) weir_actor_timer(self->kit, wake, wait_us);
            return false;
        }
        make_record(self);
    }
    if (!self->ended) return true;
    weir_intake_flush(self->intake);
    weir_actor_end(self->kit);
    return false;
}

static void drain(void *arg)
{
    source_generate *self = arg;
    self->ended = true;
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)report;
    source_generate *self = arg;
    weir_actor_vitals(self->kit)->position = (int64_t)entry->position;
    return WEIR_OK;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const forever_word[] = {"forever", NULL};

static const weir_option options[] = {
    {"seed", WEIR_OPTION_INT, offsetof(weir_source_generate_config, seed), 0, 1e15, NULL,
     false, "the same seed makes the same records"},
    {"count", WEIR_OPTION_INT, offsetof(weir_source_generate_config, count), 1, 1e15,
     forever_word, false, "records in all; then the source ends"},
    WEIR_RATE_OPTIONS(weir_source_generate_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_generate_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_generate_class = {
    .name = "source.generate",
    .help = "makes realistic web requests, the same ones for the same seed",
    .actor = weir_source_generate,
    .size = sizeof(source_generate),
    .config_size = sizeof(weir_source_generate_config),
    .defaults = &weir_source_generate_defaults,
    .options = options,
    .source = true,
    .init = init,
    .fini = fini,
    .start = start,
    .turn = turn,
    .commit = commit,
    .drain = drain,
};

void weir_source_generate(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_generate_class, pipe, config);
}
