#include "actors/source_stdin.h"
#include "runtime/clock.h"
#include <errno.h>
#include <unistd.h>

const weir_source_stdin_config weir_source_stdin_defaults = {
    .intake = WEIR_INTAKE_DEFAULTS,
};

#define READ_BYTES (256 * 1024)
#define PIECES_A_TURN 4096

typedef struct {
    weir_actor *kit;
    weir_intake *intake;
    weir_framer *framer;
    weir_lane lane;
    uint8_t *chunk; // READ_BYTES, lent to the framer
    bool readable;  // read (2) will not block
    bool regular;   // a file: always readable, unknown to epoll
    bool ended;     // end of input, or draining
    bool more;      // the framer may have pieces
} source_stdin;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_stdin *self = arg;
    const weir_source_stdin_config *c = config;
    self->kit = kit;
    self->chunk = weir_intake_chunk(READ_BYTES);
    weir_err err = weir_intake_new(&self->intake, kit,
                                   weir_actor_port(kit, weir_actor_node(kit)->name),
                                   &c->intake, report);
    return err ? err : weir_intake_framer(self->intake, &self->framer, report);
}

static void fini(void *arg)
{
    source_stdin *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
    weir_intake_destroy(&self->intake);
    weir_framer_destroy(&self->framer);
    free(self->chunk);
}

static void input_ready(void *arg)
{
    source_stdin *self = arg;
    self->readable = true;
    weir_actor_unwatch(self->kit, STDIN_FILENO);
}

static void wait_for_input(source_stdin *self)
{
    if (self->regular ||
        weir_actor_watch(self->kit, STDIN_FILENO, input_ready) == WEIR_OK)
        return;
    self->regular = true;
}

static void start(void *arg)
{
    wait_for_input(arg);
}

/* --- Reading ----------------------------------------------------------------------- */

static void end_input(source_stdin *self)
{
    if (self->ended) return;
    self->ended = true;
    weir_framer_end(self->framer);
    self->more = true;
}

/*  True: a chunk came, or the input has ended.                                */
static bool read_chunk(source_stdin *self)
{
    if (!self->readable && !self->regular) return false;
    ssize_t n = read(STDIN_FILENO, self->chunk, READ_BYTES);
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && errno == EAGAIN && !self->regular) { // another reader was faster
        self->readable = false;
        wait_for_input(self);
        return false;
    }
    if (n < 0) {
        weir_actor_fail(self->kit, WEIR_ESYS, "stdin", "cannot read: %s",
                        strerror(errno));
        return false;
    }
    if (n == 0) {
        end_input(self);
        return true;
    }
    weir_framer_feed(self->framer, self->chunk, (size_t)n);
    self->more = true;
    if (!self->regular) {
        self->readable = false;
        wait_for_input(self);
    }
    return true;
}

static void wake(void *arg)
{
    (void)arg; // turn () follows every wake-up
}

/*  A multiline record that is still open falls due by the clock.              */
static void wait_for_line(source_stdin *self)
{
    int64_t due = weir_framer_deadline(self->framer);
    if (due < 0) return;
    int64_t left = due - weir_clock_now_us();
    self->more = true;
    weir_actor_timer(self->kit, wake, left > 0 ? left : 0);
}

static bool turn(void *arg)
{
    source_stdin *self = arg;
    weir_framed piece;
    int64_t now_us = weir_clock_now_us(), wait_us;
    for (uint32_t i = 0; i < PIECES_A_TURN; i++) {
        if (!weir_intake_ready(self->intake, &wait_us)) {
            if (wait_us) weir_intake_flush(self->intake);
            if (wait_us) weir_actor_timer(self->kit, wake, wait_us);
            return false;
        }
        if (self->more && weir_framer_next(self->framer, now_us, &piece)) {
            weir_intake_piece(self->intake, &self->lane, 0, "stdin", &piece);
            i += weir_intake_lines(self->intake, self->framer);
            continue;
        }
        self->more = false;
        if (!self->ended && read_chunk(self)) continue;
        if (weir_actor_failed(self->kit)) return false;
        weir_intake_flush(self->intake);
        if (self->ended)
            weir_actor_end(self->kit);
        else
            wait_for_line(self);
        return false;
    }
    return true;
}

static void drain(void *arg)
{
    source_stdin *self = arg;
    weir_actor_unwatch(self->kit, STDIN_FILENO);
    end_input(self);
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)report;
    source_stdin *self = arg;
    weir_actor_vitals(self->kit)->position = (int64_t)entry->position;
    return WEIR_OK;
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_option options[] = {
    WEIR_FRAMING_OPTIONS(weir_source_stdin_config, intake),
    WEIR_RATE_OPTIONS(weir_source_stdin_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_stdin_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_stdin_class = {
    .name = "source.stdin",
    .help = "reads records from the standard input until its end",
    .actor = weir_source_stdin,
    .size = sizeof(source_stdin),
    .config_size = sizeof(weir_source_stdin_config),
    .defaults = &weir_source_stdin_defaults,
    .options = options,
    .source = true,
    .once = true,
    .init = init,
    .fini = fini,
    .start = start,
    .turn = turn,
    .commit = commit,
    .drain = drain,
};

void weir_source_stdin(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_stdin_class, pipe, config);
}
