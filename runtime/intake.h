/*  intake: what all sources share behind their reading: pieces of input become
    records, are screened, gathered into blocks and sent; and each block knows the
    position at which reading resumes once it is safe.                         */
#pragma once
#include "runtime/actor.h"
#include "runtime/framing.h"
#include "runtime/screen.h"

typedef enum {
    WEIR_INTAKE_JSON = 0,
    WEIR_INTAKE_MSGPACK,
    WEIR_INTAKE_TEXT,
    WEIR_INTAKE_AUTO,
} weir_intake_format;

typedef struct {
    int format;          // weir_intake_format
    int framing;         // weir_framing
    char *lines_begin;   // multiline: regex that begins a record; NULL: none
    int64_t lines_max;   // bytes of a joined record
    int64_t lines_wait;  // us
    double rate_records; // a second; WEIR_NONE: unlimited
    int64_t rate_bytes;  // a second; WEIR_NONE: unlimited
    int64_t rate_burst;  // us
    int parse_error;     // weir_on_error
    weir_screen_config screen;
} weir_intake_config;

#define WEIR_INTAKE_DEFAULTS WEIR_INTAKE_DEFAULTS_WITH(WEIR_FRAMING_NDJSON)
#define WEIR_INTAKE_DEFAULTS_WITH(how)                                                   \
    {                                                                                    \
        .format = WEIR_INTAKE_AUTO, .framing = how, .lines_max = 1 << 20,                \
        .lines_wait = 2000000, .rate_records = WEIR_NONE, .rate_bytes = WEIR_NONE,       \
        .rate_burst = 1000000, .parse_error = WEIR_ON_ERROR_DEAD,                        \
        .screen = WEIR_SCREEN_DEFAULTS                                                   \
    }

extern const char *const weir_format_words[];  // json msgpack text auto
extern const char *const weir_framing_words[]; // ndjson lines blob array
extern const char *const weir_none_word[];     // none

/*  Rows for the option table of a source that frames bytes.                   */
#define WEIR_FRAMING_OPTIONS(config, member)                                             \
    {"format",                                                                           \
     WEIR_OPTION_WORD,                                                                   \
     offsetof(config, member.format),                                                    \
     0,                                                                                  \
     0,                                                                                  \
     weir_format_words,                                                                  \
     false,                                                                              \
     "of the payload; auto: text with framing lines, else by the first byte"},           \
        {"framing",                                                                      \
         WEIR_OPTION_WORD,                                                               \
         offsetof(config, member.framing),                                               \
         0,                                                                              \
         0,                                                                              \
         weir_framing_words,                                                             \
         false,                                                                          \
         "how bytes become records"},                                                    \
        {"lines.begin",                                                                  \
         WEIR_OPTION_REGEX,                                                              \
         offsetof(config, member.lines_begin),                                           \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "multiline: matches the first line of a record"},                               \
        {"lines.max",                                                                    \
         WEIR_OPTION_SIZE,                                                               \
         offsetof(config, member.lines_max),                                             \
         1024,                                                                           \
         8388608,                                                                        \
         NULL,                                                                           \
         false,                                                                          \
         "most bytes of a joined record"},                                               \
    {                                                                                    \
        "lines.wait", WEIR_OPTION_TIME, offsetof(config, member.lines_wait), 10000,      \
            3600e6, NULL, false, "longest wait for a further line"                       \
    }

/*  Rows for every source.                                                     */
#define WEIR_RATE_OPTIONS(config, member)                                                \
    {"rate.records",                                                                     \
     WEIR_OPTION_NUMBER,                                                                 \
     offsetof(config, member.rate_records),                                              \
     1e-3,                                                                               \
     1e9,                                                                                \
     weir_none_word,                                                                     \
     false,                                                                              \
     "most records a second"},                                                           \
        {"rate.bytes",                                                                   \
         WEIR_OPTION_SIZE,                                                               \
         offsetof(config, member.rate_bytes),                                            \
         1,                                                                              \
         1e15,                                                                           \
         weir_none_word,                                                                 \
         false,                                                                          \
         "most bytes a second"},                                                         \
    {                                                                                    \
        "rate.burst", WEIR_OPTION_TIME, offsetof(config, member.rate_burst), 1000,       \
            3600e6, NULL, false, "how much of the rate may gather while nothing is read" \
    }

typedef struct weir_intake weir_intake;

/*  Sends through the port. Everything in the actor's thread.                  */
weir_err weir_intake_new(weir_intake **self_p, weir_actor *kit, int port,
                         const weir_intake_config *config, weir_report *report);
void weir_intake_destroy(weir_intake **self_p);

/*  A framer for one stream of this source.                                    */
weir_err weir_intake_framer(const weir_intake *self, weir_framer **framer,
                            weir_report *report);

/*  A buffer to read input into, at least size bytes; the caller frees it.      */
uint8_t *weir_intake_chunk(size_t size);

/*  True when a piece may be taken now. False: the window is full (class->room comes),
    or the rate or the ledger says wait; then *wait_us > 0 is for how long.    */
bool weir_intake_ready(weir_intake *self, int64_t *wait_us);

/*  What a source knows of a record beside its payload.                          */
typedef struct {
    weir_value key;         // MISSING: none
    const uint8_t *headers; // an encoded map, or NULL
    size_t headers_size;
    const char *peer; // authenticated name; NULL: none. Lent until the intake ends
    bool whole;       // a record as Weir has it: of this format, whatever the config says
    weir_format format;
    bool has_ts;
    int64_t ts_ms;
} weir_envelope;

/*  Of the pieces that follow; lent until it is set anew. NULL, as at first: nothing. */
void weir_intake_envelope(weir_intake *self, const weir_envelope *envelope);

/*  Takes one piece. lane, token and piece->end name the position behind it; label
    is the stream's name for people. parse_error decides about bad pieces; oversize
    ones become dead letters.                                                  */
void weir_intake_piece(weir_intake *self, weir_lane *lane, int token, const char *label,
                       const weir_framed *piece);

/*  Takes what follows the last piece in its stream: whole lines, until the block is full.
    Gives how many. There may be none, and then weir_framer_next knows more.   */
uint32_t weir_intake_lines(weir_intake *self, weir_framer *framer);

/*  The position has moved without a record: it is committed when all that was taken
    before is safe.                                                            */
void weir_intake_mark(weir_intake *self, weir_lane *lane, int token, uint64_t position);

/*  Sends what has gathered, however little.                                   */
void weir_intake_flush(weir_intake *self);
