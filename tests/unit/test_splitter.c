/*  Blocks dealt out by key to open blocks, and the route that says where to.           */
#include "runtime/route.h"
#include "runtime/splitter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

enum { parts = 4, vnodes = 256, got_max = 20000 };

typedef struct {
    weir_splitter *splitter;
    uint32_t owners[vnodes];
    weir_entry entry;
    struct {
        uint32_t part;
        weir_type type; // of the key
        char key[32], payload[64];
    } got[got_max];
    uint32_t got_count, blocks;
    uint32_t shares; // records of the entry in all sealed blocks
} rig;

static void sealed(void *arg, uint32_t part, weir_block **block_p,
                   const weir_share *shares, size_t count)
{
    rig *self = arg;
    weir_iterator walk = {.block = *block_p};
    weir_record record;
    self->blocks++;
    while (weir_iterator_next(&walk, &record, NULL)) {
        snprintf(self->got[self->got_count].key, 32, "%.*s", (int)record.key.size,
                 record.key.type == WEIR_STR ? (const char *)record.key.data : "");
        snprintf(self->got[self->got_count].payload, 64, "%.*s", (int)record.size,
                 (const char *)record.data);
        self->got[self->got_count].type = record.key.type;
        self->got[self->got_count++].part = part;
    }
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(shares[i].entry, &self->entry);
        self->shares += shares[i].records;
        self->entry.holds--;
    }
}

static rig *rig_new(const char *key, size_t target)
{
    rig *self = calloc(1, sizeof *self);
    for (uint32_t v = 0; v < vnodes; v++)
        self->owners[v] = v % parts;
    self->splitter = weir_splitter_new(&(weir_splitter_config){
        .key = key, .target = target, .linger_us = 1000, .sealed = sealed, .arg = self});
    weir_splitter_resize(self->splitter, parts);
    return self;
}

static void rig_destroy(rig *self)
{
    weir_splitter_destroy(&self->splitter);
    free(self);
}

/*  {"k": field} with its own key; either may be NULL.                                  */
static void add(weir_builder *builder, const char *field, const char *own)
{
    char text[64];
    int size = field ? snprintf(text, sizeof text, "{\"k\":\"%s\"}", field)
                     : snprintf(text, sizeof text, "{\"other\":1}");
    weir_record record = {
        .format = WEIR_JSON, .data = (uint8_t *)text, .size = (size_t)size};
    if (own)
        record.key = (weir_value){.type = WEIR_STR,
                                  .format = WEIR_MSGPACK,
                                  .data = (const uint8_t *)own,
                                  .size = strlen(own)};
    weir_builder_add(builder, &record, NULL);
}

static void put(rig *self, weir_builder *builder, uint32_t keyless, int64_t now_us)
{
    weir_block *block = weir_builder_seal(builder);
    weir_splitter_put(self->splitter, block, &self->entry, self->owners, vnodes, keyless,
                      now_us, NULL);
    weir_block_destroy(&block);
}

static uint32_t part_of(const char *key)
{
    return weir_key_vnode((const uint8_t *)key, strlen(key), vnodes) % parts;
}

/* --- Splitter ---------------------------------------------------------------------- */

static void a_key_always_goes_to_its_part_in_order(void **state)
{
    (void)state;
    rig *self = rig_new("k", 4096);
    uint32_t next[100] = {0}, sent = 0;
    for (int b = 0; b < 100; b++) {
        weir_builder builder = {.target = 1 << 16};
        for (int i = 0; i < 100; i++) {
            char key[32];
            snprintf(key, sizeof key, "key-%d", (b * 31 + i * 7) % 100);
            add(&builder, key, NULL);
        }
        put(self, &builder, 0, b);
        weir_builder_fini(&builder);
        sent += 100;
    }
    weir_splitter_seal_all(self->splitter);
    assert_int_equal(self->got_count, sent);
    assert_int_equal(self->shares, sent);
    assert_int_equal(self->entry.holds, 0);
    for (uint32_t i = 0; i < sent; i++) {
        assert_int_equal(self->got[i].part, part_of(self->got[i].key));
        next[atoi(self->got[i].key + 4)]++;
    }
    for (int k = 0; k < 100; k++)
        assert_int_equal(next[k], 100);
    rig_destroy(self);
}

static void the_field_wins_over_the_own_key_which_serves_where_it_is_missing(void **state)
{
    (void)state;
    rig *self = rig_new("k", 4096);
    weir_builder builder = {.target = 1 << 16};
    add(&builder, "field", "own");
    add(&builder, NULL, "own");
    add(&builder, NULL, NULL);
    put(self, &builder, 3, 0);
    weir_splitter_seal_all(self->splitter);
    weir_builder_fini(&builder);
    assert_int_equal(self->got_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        const char *key = self->got[i].key;
        bool is_field = strstr(self->got[i].payload, "field") != NULL;
        assert_int_equal(self->got[i].part, *key ? part_of(key) : 3);
        if (is_field) assert_string_equal(key, "field");
    }
    rig_destroy(self);
}

/*  What is no key is not written either: nobody behind may take it for one.            */
static void a_field_that_is_no_key_makes_a_record_keyless(void **state)
{
    (void)state;
    static const char *const fields[] = {"[1,2]", "{\"a\":1}", "1.5", "null", "1e3"};
    enum { kinds = sizeof fields / sizeof *fields };
    for (int own = 0; own < 2; own++) {
        rig *self = rig_new("k", 4096);
        weir_builder builder = {.target = 1 << 16};
        for (int i = 0; i < kinds; i++) {
            char text[64];
            int size = snprintf(text, sizeof text, "{\"k\":%s}", fields[i]);
            weir_record record = {
                .format = WEIR_JSON, .data = (uint8_t *)text, .size = (size_t)size};
            if (own) record.key = (weir_value){.type = WEIR_INT, .integer = i};
            weir_builder_add(&builder, &record, NULL);
        }
        put(self, &builder, 3, 0);
        weir_splitter_seal_all(self->splitter);
        weir_builder_fini(&builder);
        assert_int_equal(self->got_count, kinds);
        for (int i = 0; i < kinds; i++) {
            assert_int_equal(self->got[i].part, 3);
            assert_int_equal(self->got[i].type, WEIR_MISSING);
        }
        rig_destroy(self);
    }
}

/*  Its own key serves a record whose payload is no document, or has no such field.     */
static void integers_and_booleans_are_keys(void **state)
{
    (void)state;
    static const struct {
        const char *payload, *key;
        weir_type type;
    } records[] = {{"{\"k\":-7}", "-7", WEIR_INT},
                   {"{\"k\":true}", "true", WEIR_BOOL},
                   {"{\"k\":18446744073709551615}", "18446744073709551615", WEIR_UINT},
                   {"{\"k\":\"\"}", "", WEIR_STR},
                   {"no document", "own", WEIR_STR}};
    enum { kinds = sizeof records / sizeof *records };
    rig *self = rig_new("k", 4096);
    for (int i = 0; i < kinds; i++) {
        weir_builder builder = {.target = 1 << 16};
        weir_record record = {
            .format = WEIR_JSON,
            .data = (const uint8_t *)records[i].payload,
            .size = strlen(records[i].payload),
            .key = {.type = WEIR_STR, .data = (const uint8_t *)"own", .size = 3}};
        weir_builder_add(&builder, &record, NULL);
        put(self, &builder, 0, 0);
        weir_splitter_seal_all(self->splitter);
        weir_builder_fini(&builder);
        assert_int_equal(self->got[i].part, part_of(records[i].key));
        assert_int_equal(self->got[i].type, records[i].type);
    }
    rig_destroy(self);
}

static void blocks_without_keys_need_no_splitting(void **state)
{
    (void)state;
    rig *own = rig_new(NULL, 4096), *field = rig_new("k", 4096);
    weir_builder builder = {.target = 1 << 16};
    add(&builder, "x", NULL);
    weir_block *keyless = weir_builder_seal(&builder);
    add(&builder, "x", "own");
    weir_block *keyed = weir_builder_seal(&builder);
    assert_true(weir_splitter_is_whole(own->splitter, keyless));
    assert_false(weir_splitter_is_whole(own->splitter, keyed));
    assert_false(weir_splitter_is_whole(field->splitter, keyless));
    weir_block_destroy(&keyless);
    weir_block_destroy(&keyed);
    weir_builder_fini(&builder);
    rig_destroy(own);
    rig_destroy(field);
}

static void a_block_is_open_for_no_longer_than_its_linger(void **state)
{
    (void)state;
    rig *self = rig_new("k", 4096);
    weir_builder builder = {.target = 1 << 16};
    assert_int_equal(weir_splitter_deadline(self->splitter), -1);
    add(&builder, "x", NULL);
    put(self, &builder, 0, 5000);
    weir_builder_fini(&builder);
    assert_int_equal(weir_splitter_deadline(self->splitter), 6000);
    weir_splitter_seal_due(self->splitter, 5999);
    assert_int_equal(self->blocks, 0);
    weir_splitter_seal_due(self->splitter, 6000);
    assert_int_equal(self->blocks, 1);
    assert_int_equal(weir_splitter_deadline(self->splitter), -1);
    rig_destroy(self);
}

/*  What each of many parts gets is little: it waits for more as long as more comes.    */
static void with_many_parts_blocks_are_open_longer_unless_nothing_more_comes(void **state)
{
    (void)state;
    rig *self = rig_new("k", 4096);
    weir_builder builder = {.target = 1 << 16};
    weir_splitter_resize(self->splitter, 64);
    add(&builder, "x", NULL);
    put(self, &builder, 0, 5000);
    assert_int_equal(weir_splitter_deadline(self->splitter), 6000);
    add(&builder, "x", NULL);
    put(self, &builder, 0, 5900);
    assert_int_equal(weir_splitter_deadline(self->splitter), 6900);
    weir_splitter_seal_due(self->splitter, 6899);
    assert_int_equal(self->blocks, 0);
    weir_splitter_seal_due(self->splitter, 6900);
    assert_int_equal(self->blocks, 1);
    for (int64_t now_us = 10000; self->blocks == 1; now_us += 900) {
        assert_true(now_us <= 10000 + 33000); // 32 times as long, to the next put
        add(&builder, "x", NULL);
        put(self, &builder, 0, now_us);
        weir_splitter_seal_due(self->splitter, now_us);
    }
    assert_int_equal(self->got_count, 2 + 37);
    weir_builder_fini(&builder);
    rig_destroy(self);
}

/* --- Route ------------------------------------------------------------------------- */

static bool is_woken(int fd)
{
    eventfd_t value;
    return eventfd_read(fd, &value) == 0;
}

static uint64_t publish(weir_route *route)
{
    weir_route_map *map = weir_route_map_new(vnodes, 2);
    return weir_route_publish(route, &map);
}

static void a_version_is_marked_when_every_user_says_so_or_has_left(void **state)
{
    (void)state;
    weir_route *route = weir_route_new(&(weir_route_config){.key = "k"});
    int fd[3];
    for (int i = 0; i < 3; i++)
        fd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    weir_route_watch(route, fd[2]);
    publish(route);
    weir_route_user *a = weir_route_join(route, fd[0]),
                    *b = weir_route_join(route, fd[1]);
    is_woken(fd[0]);
    uint64_t version = publish(route);
    assert_true(is_woken(fd[0]) && is_woken(fd[1]));
    assert_int_equal(weir_route_version(route), version);
    assert_false(weir_route_is_marked(route, version));
    weir_route_marked(a, version);
    assert_false(weir_route_is_marked(route, version));
    assert_true(is_woken(fd[2]));
    weir_route_leave(&b);
    assert_true(is_woken(fd[2]));
    assert_true(weir_route_is_marked(route, version));
    uint64_t round = weir_route_ask_flush(route);
    assert_false(weir_route_is_flushed(route, round));
    weir_route_flushed(a, round);
    assert_true(weir_route_is_flushed(route, round));
    weir_route_destroy(&route); // the user's reference keeps it
    weir_route_leave(&a);
    for (int i = 0; i < 3; i++)
        close(fd[i]);
}

static void who_joins_later_owes_nothing(void **state)
{
    (void)state;
    weir_route *route = weir_route_new(&(weir_route_config){.key = NULL});
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uint64_t version = publish(route), round = weir_route_ask_flush(route);
    weir_route_user *user = weir_route_join(route, fd);
    assert_true(weir_route_is_marked(route, version));
    assert_true(weir_route_is_flushed(route, round));
    weir_route_leave(&user);
    weir_route_destroy(&route);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_always_goes_to_its_part_in_order),
        cmocka_unit_test(
            the_field_wins_over_the_own_key_which_serves_where_it_is_missing),
        cmocka_unit_test(a_field_that_is_no_key_makes_a_record_keyless),
        cmocka_unit_test(integers_and_booleans_are_keys),
        cmocka_unit_test(blocks_without_keys_need_no_splitting),
        cmocka_unit_test(a_block_is_open_for_no_longer_than_its_linger),
        cmocka_unit_test(
            with_many_parts_blocks_are_open_longer_unless_nothing_more_comes),
        cmocka_unit_test(a_version_is_marked_when_every_user_says_so_or_has_left),
        cmocka_unit_test(who_joins_later_owes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
