/*  Frame 0: what reads is written again and reads the same.                   */
#include "runtime/frame.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void check_same_place(const weir_place *a, const weir_place *b)
{
    CHECK(a->nonce == b->nonce && a->epoch == b->epoch && a->sequence == b->sequence);
    CHECK(a->offset == b->offset && a->shard == b->shard);
}

static void check_same(const weir_frame *a, const weir_frame *b)
{
    CHECK(a->type == b->type && a->stage == b->stage && a->sequence == b->sequence);
    CHECK(a->bytes == b->bytes && a->barrier == b->barrier && a->session == b->session);
    CHECK(a->base == b->base && a->epoch == b->epoch && a->flags == b->flags);
    CHECK(a->argument == b->argument && a->version == b->version && a->kind == b->kind);
    CHECK(a->records == b->records && a->retryable == b->retryable);
    CHECK(same_text(a->node, b->node) && same_text(a->outlet, b->outlet));
    CHECK(same_text(a->code, b->code) && same_text(a->text, b->text));
    CHECK(a->run_count == b->run_count);
    uint64_t total = 0;
    for (size_t i = 0; i < a->run_count; i++) {
        CHECK(a->runs[i].records == b->runs[i].records);
        CHECK(same_text(a->runs[i].source, b->runs[i].source));
        CHECK(same_text(a->runs[i].peer, b->runs[i].peer));
        CHECK(same_text(a->runs[i].label, b->runs[i].label));
        check_same_place(&a->runs[i].place, &b->runs[i].place);
        CHECK(!a->runs[i].place.nonce == !a->runs[0].place.nonce);
        total += a->runs[i].records;
    }
    CHECK(a->type != WEIR_BLOCK || total == a->records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_frame first, second;
    weir_buffer scratch = {0}, other = {0}, out = {0};
    if (weir_frame_read(&first, data, size, &scratch) == WEIR_OK) {
        weir_frame_put(&first, &out);
        if (out.size <= WEIR_FRAME_MAX) {
            CHECK(weir_frame_read(&second, out.data, out.size, &other) == WEIR_OK);
            check_same(&first, &second);
        } else {
            CHECK(size > WEIR_FRAME_MAX - 16); // `base` may have been added
        }
    }
    weir_buffer_fini(&scratch);
    weir_buffer_fini(&other);
    weir_buffer_fini(&out);
    return 0;
}
