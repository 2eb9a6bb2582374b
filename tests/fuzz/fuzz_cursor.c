/*  cursor and id: a text that reads is the one that would be written; bytes behind a
    right checksum get no further than that either. */
#include "actors/cursor.h"
#include "actors/dedup.h"
#include "runtime/base64.h"
#include <endian.h>
#include <xxhash.h>

enum { nonce = 7 };

static void require(bool holds)
{
    if (!holds) __builtin_trap();
}

static void try_text(const char *text, size_t size, uint64_t wanted)
{
    weir_cursor cursor;
    weir_report report = {0};
    weir_buffer again = {0};
    if (weir_cursor_read(&cursor, text, size, wanted, &report)) {
        require(!cursor.marks && !cursor.count && report.err == WEIR_EINVAL);
        require(!strncmp(report.text, "bad_cursor: ", 12));
        return;
    }
    weir_cursor_put(&cursor, &again);
    require(again.size == size && !memcmp(again.data, text, size));
    require(cursor.nonce == wanted);
    for (size_t i = 0; i < cursor.count; i++) {
        require(i == 0 || cursor.marks[i - 1].shard < cursor.marks[i].shard);
        weir_position at = weir_cursor_get(&cursor, cursor.marks[i].shard);
        require(at.a == cursor.marks[i].at.a && at.b == cursor.marks[i].at.b);
    }
    weir_buffer_fini(&again);
    weir_cursor_fini(&cursor);
}

/*  The bytes as M, with their checksum.                                            */
static void try_bytes(const uint8_t *data, size_t size)
{
    weir_buffer bytes = {0};
    uint32_t sum = htobe32((uint32_t)XXH3_64bits(data, size));
    weir_buffer_put(&bytes, data, size);
    weir_buffer_put(&bytes, &sum, sizeof sum);
    char *text = malloc(2 + weir_base64_size(bytes.size));
    memcpy(text, "w1", 2);
    size_t length = 2 + weir_base64_encode(text + 2, bytes.data, bytes.size);
    while (text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    try_text(text, length, nonce);
    free(text);
    weir_buffer_fini(&bytes);
}

/*  A cursor of the bytes: a byte of the shard and one of the offset each.          */
static void try_marks(const uint8_t *data, size_t size)
{
    weir_cursor cursor = {.nonce = nonce};
    weir_buffer text = {0};
    for (size_t i = 0; i + 2 <= size; i += 2)
        weir_cursor_set(&cursor, data[i], (weir_position){data[i + 1], 0});
    weir_cursor_put(&cursor, &text);
    try_text((char *)text.data, text.size, nonce);
    if (size) {
        text.data[data[0] % text.size] ^= 1;
        weir_cursor again;
        require(weir_cursor_read(&again, (char *)text.data, text.size, nonce, NULL));
    }
    weir_buffer_fini(&text);
    weir_cursor_fini(&cursor);
}

static void try_id(const uint8_t *data, size_t size)
{
    weir_id id;
    char again[WEIR_ID_TEXT], *text = strndup((const char *)data, size);
    if (weir_id_parse(&id, text)) {
        weir_id_print(&id, again);
        require(!strcmp(again, text));
    }
    free(text);
    if (size < sizeof id) return;
    memcpy(&id, data, sizeof id);
    weir_id_print(&id, again);
    require(weir_id_parse(&id, again) && !memcmp(&id, data, sizeof id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_text((const char *)data, size, nonce);
    try_bytes(data, size);
    try_marks(data, size);
    try_id(data, size);
    return 0;
}
