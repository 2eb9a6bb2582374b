/*  control: any frames are a request or a refusal with a sentence; a request is texts
    within their limits.

    Each frame is two bytes of length and its bytes; 0xff 0xff repeats the prefix.  */
#include "runtime/control.h"
#include "runtime/utf8.h"

enum { frames_max = 40 };

static void require(bool holds)
{
    if (!holds) abort();
}

static size_t cut_frames(weir_control_frame *frames, const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;
    size_t count = 0;
    while (end - data >= 2 && count < frames_max) {
        size_t length = (size_t)data[0] << 8 | data[1];
        data += 2;
        if (length == 0xffff) {
            frames[count++] = (weir_control_frame){"WEIR1", 5};
            continue;
        }
        if (length > (size_t)(end - data)) length = (size_t)(end - data);
        frames[count++] = (weir_control_frame){data, length};
        data += length;
    }
    return count;
}

static void check_text(const char *text)
{
    size_t size = strlen(text);
    require(size <= WEIR_CONTROL_FRAME_MAX);
    require(weir_utf8_valid((const uint8_t *)text, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_control_frame frames[frames_max];
    weir_request request;
    weir_report report = {0};
    size_t count = cut_frames(frames, data, size);
    weir_err err = weir_request_parse(&request, frames, count, &report);
    require((err == WEIR_OK) == (*report.text == 0));
    require(request.id.size <= WEIR_CONTROL_ID_MAX);
    if (!err) {
        require(request.arg_count <= WEIR_CONTROL_ARGS_MAX);
        check_text(request.command);
        for (size_t i = 0; i < request.arg_count; i++)
            check_text(request.args[i]);
    }
    weir_request_fini(&request);
    return 0;
}
