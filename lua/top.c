/*  top: `weir top`: what each node of a running weir does, once a second.      */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include "lua/ctl.h"
#include "lua/progress.h"
#include "lua/remote.h"
#include "lua/run.h"
#include "runtime/why.h"

const weir_flag weir_top_flags[] = {
    {"--once", NULL, "one table, with the rates of one second, and end"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

static const int second_ms = 1000;

/*  What a node had counted at the last look.                                  */
typedef struct {
    char name[64];
    uint64_t records, bytes;
} sample;

typedef struct {
    weir_remote *remote;
    const char *node; // shown alone; "": all
    bool terminal, once;
    struct termios before; // of the terminal
    int signal_fd;
    sample *samples; // owned
    size_t count;
    uint64_t wall_ms; // of the samples; 0: none yet
} top;

/* --- Table ------------------------------------------------------------------------- */

static sample *sample_of(top *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->samples[i].name, name) == 0) return &self->samples[i];
    self->samples = realloc(self->samples, (self->count + 1) * sizeof *self->samples);
    if (!self->samples) abort();
    sample *s = &self->samples[self->count++];
    *s = (sample){.records = 0};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/*  The first thing that it waits for.                                         */
static void put_wait(const weir_value *node, weir_buffer *out)
{
    weir_value waits, key, wait;
    weir_walk walk = {0};
    char kind[32], subject[192], since[32];
    if (!weir_look(node, "waits", &waits) || !weir_value_next(&waits, &walk, &key, &wait))
        return;
    weir_duration_print((int64_t)weir_look_number(&wait, "since_ms") * 1000, since);
    weir_look_text(&wait, "subject", subject, sizeof subject);
    weir_buffer_printf(out, "%s%s%s, %s", weir_look_text(&wait, "for", kind, sizeof kind),
                       *subject ? " " : "", subject, since);
}

/*  Of a bus: how many shards take records, and how full the fullest ring is.   */
static void put_bus(const weir_value *node, weir_buffer *out)
{
    weir_value bus, shards;
    if (!weir_look(node, "bus", &bus) || !weir_look(&bus, "shards", &shards)) return;
    uint64_t active = weir_look_number(&bus, "active");
    weir_buffer_printf(out, "%" PRIu64 " shard%s, %" PRIu64 "%% full  ", active,
                       active == 1 ? "" : "s", weir_look_number(&bus, "fill_percent"));
}

static uint64_t since(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0; // it has started again
}

static void put_node(top *self, const weir_value *node, double elapsed_s,
                     weir_buffer *out)
{
    char name[64], state[32], records_a[16], bytes_a[16], resident[16];
    weir_look_text(node, "name", name, sizeof name);
    sample *s = sample_of(self, name);
    uint64_t records = weir_look_number(node, "in");
    uint64_t bytes =
        weir_look_number(node, "bytes_in") + weir_look_number(node, "bytes_out");
    double record_rate = (double)since(records, s->records) / elapsed_s;
    double byte_rate = (double)since(bytes, s->bytes) / elapsed_s;
    s->records = records;
    s->bytes = bytes;
    weir_buffer_printf(
        out, "%-20.20s %-10s %10s %10s %10s  ", name,
        weir_look_text(node, "state", state, sizeof state),
        weir_progress_number(record_rate, records_a),
        weir_progress_number(byte_rate, bytes_a),
        weir_progress_number((double)weir_look_number(node, "resident"), resident));
    put_bus(node, out);
    put_wait(node, out);
    weir_buffer_put_byte(out, '\n');
}

static void put_table(top *self, const weir_value *body, weir_buffer *out)
{
    weir_value nodes, key, node, ledger;
    weir_walk walk = {0};
    char name[64], up[32], used[16];
    uint64_t wall_ms = weir_look_number(body, "wall_ms");
    double elapsed_s = self->wall_ms ? (double)since(wall_ms, self->wall_ms) / 1e3
                                     : (double)weir_look_number(body, "up_ms") / 1e3;
    if (elapsed_s < 0.001) elapsed_s = 0.001;
    self->wall_ms = wall_ms;
    weir_duration_print((int64_t)weir_look_number(body, "up_ms") * 1000, up);
    weir_look(body, "ledger", &ledger);
    weir_buffer_printf(
        out,
        "%s  up %s  restarts %" PRIu64 "  memory %sB\n%-20s %-10s %10s %10s %10s  %s\n",
        weir_look_text(body, "name", name, sizeof name), up,
        weir_look_number(body, "restarts"),
        weir_progress_number((double)weir_look_number(&ledger, "used"), used), "node",
        "state", "records/s", "bytes/s", "in flight", "waits for");
    if (!weir_look(body, "nodes", &nodes)) return;
    while (weir_value_next(&nodes, &walk, &key, &node))
        put_node(self, &node, elapsed_s, out);
}

/* --- Screen ------------------------------------------------------------------------ */

static void open_screen(top *self)
{
    struct termios raw;
    if (!self->terminal) return;
    printf("\033[?1049h\033[?25l");
    if (tcgetattr(STDIN_FILENO, &self->before)) return;
    raw = self->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void close_screen(top *self)
{
    if (!self->terminal) return;
    if (isatty(STDIN_FILENO)) tcsetattr(STDIN_FILENO, TCSANOW, &self->before);
    printf("\033[?25h\033[?1049l");
    fflush(stdout);
}

/*  As much as fits on the terminal; a character beyond ASCII may take a column more
    than it shows.                                                             */
static void draw(const weir_buffer *table)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row || !size.ws_col)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    printf("\033[H");
    int row = 1, column = 0;
    for (size_t i = 0; i < table->size && row < size.ws_row; i++) {
        uint8_t c = table->data[i];
        if (c == '\n') {
            printf("\033[K\n");
            row++;
            column = 0;
        } else if (column < size.ws_col) {
            putchar(c);
            column += (c & 0xc0) != 0x80;
        }
    }
    printf("\033[J");
}

/*  False: a signal, or the key q.                                             */
static bool wait_a_second(const top *self)
{
    struct pollfd fds[] = {{.fd = self->signal_fd, .events = POLLIN},
                           {.fd = STDIN_FILENO, .events = POLLIN}};
    char c = 0;
    bool keys = self->terminal && isatty(STDIN_FILENO);
    poll(fds, keys ? 2 : 1, second_ms);
    if (keys && fds[1].revents && read(STDIN_FILENO, &c, 1) <= 0) c = 'q';
    return !fds[0].revents && c != 'q';
}

/* --- Command ----------------------------------------------------------------------- */

static weir_err look_once(top *self, weir_buffer *table, weir_report *report)
{
    weir_value body;
    table->size = 0;
    weir_err err = weir_remote_ask(self->remote, &body, report, "stats",
                                   *self->node ? self->node : NULL, NULL);
    if (!err) put_table(self, &body, table);
    return err;
}

/*  The first table has the rates since the start, so --once looks twice.      */
static weir_err run_top(top *self, weir_report *report)
{
    weir_buffer table = {0};
    weir_err err = look_once(self, &table, report);
    bool on = !err;
    if (on && self->once) {
        on = wait_a_second(self);
        if (on) err = look_once(self, &table, report);
    }
    while (on && !err) {
        if (self->terminal)
            draw(&table);
        else
            printf("%.*s%s", (int)table.size, (char *)table.data, self->once ? "" : "\n");
        if (fflush(stdout) || self->once) break;
        on = wait_a_second(self);
        if (on) err = look_once(self, &table, report);
        if (err == WEIR_ETIMEOUT && !weir_remote_is_there(self->remote))
            weir_report_set(report, WEIR_ECLOSED, NULL, "it has ended");
    }
    weir_buffer_fini(&table);
    return err;
}

int weir_cmd_top(const weir_command_line *line)
{
    weir_target target;
    weir_report report = {0};
    top self = {.once = weir_line_flag(line, "--once"),
                .signal_fd = weir_run_open_signals()};
    self.terminal = isatty(STDOUT_FILENO) && !self.once;
    weir_err err = weir_remote_open(&self.remote, line, weir_line_operand(line, 0),
                                    &target, &report);
    self.node = target.node;
    if (!err) {
        open_screen(&self);
        err = run_top(&self, &report);
        close_screen(&self);
    }
    weir_remote_close(&self.remote);
    close(self.signal_fd);
    free(self.samples);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}
