/*  The disk store's blocks: what the check accepts is packed to the same bytes, and its
    records can be walked, well-formed or not. The first byte chooses whether the checksum
    is put right, since hardly an input would get past it.                          */
#include "actors/disk_block.h"
#include "runtime/block.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

static void pack(const weir_disk_head *head, const uint8_t *body, uint8_t *packed)
{
    weir_disk_sum *sum = weir_disk_sum_new();
    weir_disk_head_begin(head, sum, packed);
    weir_disk_head_body(sum, body, head->body_bytes / 2);
    weir_disk_head_body(sum, body + head->body_bytes / 2,
                        head->body_bytes - head->body_bytes / 2);
    weir_disk_head_end(sum, packed);
    weir_disk_sum_destroy(&sum);
}

static void walk(const weir_disk_head *head, const uint8_t *body)
{
    weir_block *block =
        weir_block_wrap(body, head->body_bytes, head->count, NULL, 0, NULL, NULL);
    if (weir_block_check(block) == WEIR_OK) {
        weir_iterator records = {.block = block};
        weir_record record;
        uint32_t count = 0;
        while (weir_iterator_next(&records, &record, NULL))
            count++;
        CHECK(count == head->count);
    }
    weir_block_destroy(&block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_disk_key key;
    weir_disk_head head;
    uint8_t packed[WEIR_DISK_HEAD_SIZE], again[WEIR_DISK_KEY_SIZE];
    if (size < 1 + WEIR_DISK_KEY_SIZE) return 0;
    CHECK(weir_disk_key_read(&key, data + 1, WEIR_DISK_KEY_SIZE));
    weir_disk_key_pack(&key, again);
    CHECK(memcmp(again, data + 1, sizeof again) == 0);
    size_t rest = size - 1 - WEIR_DISK_KEY_SIZE;
    uint8_t *value = malloc(rest + 1);
    memcpy(value, data + 1 + WEIR_DISK_KEY_SIZE, rest);
    const uint8_t *body = value + WEIR_DISK_HEAD_SIZE;
    if (weir_disk_head_read(&head, key, value, rest, NULL) == WEIR_OK) {
        pack(&head, body, packed);
        if (data[0] & 1) memcpy(value, packed, sizeof packed);
        bool same = memcmp(value, packed, sizeof packed) == 0;
        CHECK((weir_disk_block_check(&head, key, value, rest, NULL) == WEIR_OK) == same);
        if (same) walk(&head, body);
    }
    free(value);
    return 0;
}
