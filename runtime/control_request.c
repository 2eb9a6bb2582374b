#include "runtime/control.h"
#include "runtime/utf8.h"
#include <stdio.h>

static const char *const codes[] = {
    [WEIR_OK] = "ok",
    [WEIR_ESYS] = "failed",
    [WEIR_EINVAL] = "invalid",
    [WEIR_EMALFORMED] = "malformed",
    [WEIR_ETOOBIG] = "too-big",
    [WEIR_EFULL] = "full",
    [WEIR_EPROTO] = "protocol",
    [WEIR_ECLOSED] = "ended",
    [WEIR_ETIMEOUT] = "timeout",
    [WEIR_ENOTFOUND] = "not-found",
    [WEIR_EREFUSED] = "refused",
    [WEIR_ESTOP] = "failed",
};

const char *weir_control_code(weir_err err)
{
    bool known = (size_t)err < sizeof codes / sizeof *codes && codes[err];
    return known ? codes[err] : "failed";
}

static bool equals(const weir_control_frame *frame, const char *text)
{
    return frame->size == strlen(text) && memcmp(frame->data, text, frame->size) == 0;
}

static bool is_text(const weir_control_frame *frame)
{
    return !memchr(frame->data, 0, frame->size) &&
           weir_utf8_valid(frame->data, frame->size);
}

static weir_err check_sizes(const weir_control_frame *frames, size_t count,
                            weir_report *report)
{
    if (count > WEIR_CONTROL_ARGS_MAX + 1)
        return weir_report_set(report, WEIR_ETOOBIG, NULL,
                               "a command has at most %d arguments",
                               WEIR_CONTROL_ARGS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (frames[i].size > WEIR_CONTROL_FRAME_MAX)
            return weir_report_set(report, WEIR_ETOOBIG, NULL,
                                   "a frame has at most %d bytes",
                                   WEIR_CONTROL_FRAME_MAX);
        if (frames[i].size && !is_text(&frames[i]))
            return weir_report_set(report, WEIR_EMALFORMED, NULL,
                                   "command and arguments must be UTF-8 text");
    }
    return WEIR_OK;
}

/*  The frames from the command on, as texts that end with a 0, one behind the other. */
static void copy_texts(weir_request *self, const weir_control_frame *frames, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += frames[i].size + 1;
    char *at = self->text = calloc(1, size);
    if (!at) abort();
    for (size_t i = 0; i < count; i++) {
        if (i == 0)
            self->command = at;
        else
            self->args[self->arg_count++] = at;
        if (frames[i].size) memcpy(at, frames[i].data, frames[i].size);
        at += frames[i].size + 1;
    }
}

weir_err weir_request_parse(weir_request *self, const weir_control_frame *frames,
                            size_t count, weir_report *report)
{
    *self = (weir_request){.id = {"", 0}};
    if (count && frames[0].size == 0) {
        self->delimited = true;
        frames++;
        count--;
    }
    if (count == 0 || !equals(&frames[0], "WEIR1"))
        return weir_report_set(report, WEIR_EPROTO, NULL,
                               "this is the control endpoint of a weir; a request is "
                               "WEIR1, id, command, arguments, a frame each");
    if (count > 1 && frames[1].size > WEIR_CONTROL_ID_MAX)
        return weir_report_set(report, WEIR_ETOOBIG, NULL, "an id has at most %d bytes",
                               WEIR_CONTROL_ID_MAX);
    if (count > 1) self->id = frames[1];
    if (count < 3)
        return weir_report_set(report, WEIR_EMALFORMED, NULL,
                               "a request needs an id and a command behind WEIR1");
    weir_err err = check_sizes(frames + 2, count - 2, report);
    if (!err) copy_texts(self, frames + 2, count - 2);
    return err;
}

void weir_request_fini(weir_request *self)
{
    free(self->text);
    self->text = NULL;
}
