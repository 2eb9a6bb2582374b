/*  bus_reply: the replies of docs/wire.md, part "The bus endpoint", written into a
    buffer.

        reply    [id | nil, code, {field: value, ..}]                                   */
#pragma once
#include "actors/bus_request.h"

/*  Replies without fields, and those that say what was wrong. A report's text may begin
    with the code and a colon, which are left out.                                      */
void weir_bus_reply_ok(weir_buffer *out, const weir_bus_request *request);
void weir_bus_reply_error(weir_buffer *out, const weir_bus_request *request,
                          const char *code, const char *text);

typedef struct {
    const char *bus;
    uint64_t nonce;
    uint32_t vnodes;
    int64_t member_timeout_ms; // of the member that asks; -1: it is none
} weir_bus_hello;

void weir_bus_reply_hello(weir_buffer *out, const weir_bus_request *request,
                          const weir_bus_hello *hello);
void weir_bus_reply_page(weir_buffer *out, const weir_bus_request *request,
                         const weir_page *page);
/*  One without a block has no records.                                                 */
void weir_bus_reply_delivered(weir_buffer *out, const weir_bus_request *request,
                              const weir_delivered *delivered);
void weir_bus_reply_groups(weir_buffer *out, const weir_bus_request *request,
                           const weir_group_look *list, size_t count);
