/*  The disk store's blocks and gaps: what the check accepts is packed to the same bytes,
    and its records can be walked, well-formed or not. The first byte chooses whether the
    checksum is put right, or all of the header, since hardly an input would get past
    them.                                                                           */
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

/*  A key and a value as they are, but for the checksum.                            */
static void check_value(weir_disk_key key, uint8_t *value, size_t size, bool mend)
{
    weir_disk_head head;
    uint8_t packed[WEIR_DISK_HEAD_SIZE];
    const uint8_t *body = value + WEIR_DISK_HEAD_SIZE;
    if (weir_disk_head_read(&head, key, value, size, NULL)) return;
    pack(&head, body, packed);
    if (mend) memcpy(value, packed, sizeof packed);
    bool same = memcmp(value, packed, sizeof packed) == 0;
    CHECK((weir_disk_block_check(&head, key, value, size, NULL) == WEIR_OK) == same);
    if (same) walk(&head, body);
}

/*  All bytes but the header's are a body of so many records.                       */
static void check_body(weir_disk_key key, uint8_t *value, size_t size, uint32_t count)
{
    weir_disk_head head = {count, 0, 1, 1, 0, size - WEIR_DISK_HEAD_SIZE};
    if (!count || key.last < count || key.last == UINT64_MAX ||
        count > head.body_bytes / 5)
        return;
    head.first = key.last - count + 1;
    pack(&head, value + WEIR_DISK_HEAD_SIZE, value);
    CHECK(weir_disk_block_check(&head, key, value, size, NULL) == WEIR_OK);
    walk(&head, value + WEIR_DISK_HEAD_SIZE);
}

static void check_gap(weir_disk_key key, const uint8_t *value, size_t size)
{
    weir_disk_gap gap;
    uint8_t again[WEIR_DISK_GAP_SIZE];
    if (!weir_disk_gap_read(&gap, key, value, size)) return;
    weir_disk_gap_pack(&gap, again);
    CHECK(size == sizeof again && memcmp(again, value, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t before = 2 + WEIR_DISK_KEY_SIZE;
    weir_disk_key key;
    uint8_t again[WEIR_DISK_KEY_SIZE];
    if (size < before) return 0;
    CHECK(weir_disk_key_read(&key, data + 2, WEIR_DISK_KEY_SIZE));
    weir_disk_key_pack(&key, again);
    CHECK(memcmp(again, data + 2, sizeof again) == 0);
    size_t rest = size - before;
    uint8_t *value = malloc(rest + 1);
    memcpy(value, data + before, rest);
    check_gap(key, value, rest);
    if (data[0] & 2 && rest >= WEIR_DISK_HEAD_SIZE)
        check_body(key, value, rest, data[1]);
    else
        check_value(key, value, rest, data[0] & 1);
    free(value);
    return 0;
}
