/*  Where a read of the JetStream store says that there is no more, there is none,
   whatever a consumer of the server says to be pending; and at the end nobody waits for
   what it says. */
#include "help_jetstream.h"

enum { rounds = 20 };

static unsigned seed;
static help_proxy *proxy;

static int start(void **state)
{
    const char *given = getenv("SEED");
    seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);
    print_message("SEED=%u\n", seed);
    start_server(state);
    if (server.server) proxy = help_proxy_start(NULL, server.port);
    return 0;
}

static int end(void **state)
{
    help_proxy_destroy(&proxy);
    return end_server(state);
}

static unsigned below(unsigned limit)
{
    return (unsigned)rand_r(&seed) % limit;
}

static weir_store *store_through_proxy(void)
{
    return store_at(help_proxy_port(proxy));
}

/* --- What the server says of itself ------------------------------------------------ */

/*  Of "$JS.ACK.stream.consumer.delivered.sequence.number.time.pending" the last part;
   what two parts share stays as it is. */
static void pend_nothing(void *arg, char *bytes, size_t size)
{
    static const char head[] = "$JS.ACK.";
    (void)arg;
    char *end = bytes + size, *at = bytes;
    while ((at = memmem(at, (size_t)(end - at), head, sizeof head - 1))) {
        char *last = NULL;
        for (; at < end && *at != ' ' && *at != '\r'; at++)
            if (*at == '.') last = at + 1;
        if (at < end && last) memset(last, '0', (size_t)(at - last));
    }
}

static void count_requests(void *arg, char *bytes, size_t size)
{
    static const char name[] = "CONSUMER.MSG.NEXT";
    atomic_uint *count = arg;
    char *end = bytes + size, *at = bytes;
    while ((at = memmem(at, (size_t)(end - at), name, sizeof name - 1))) {
        atomic_fetch_add(count, 1);
        at += sizeof name - 1;
    }
}

/*  One read behind what was read; gives whether there may be more.                    */
static bool read_on(weir_store *store, uint32_t page, tally *self)
{
    weir_read read = {
        .after = {self->last, 0}, .max_records = page, .max_bytes = 1 << 20};
    read_once(store, &read);
    count_read(self, &read);
    bool more = read.more;
    weir_read_fini(&read);
    return more;
}

/*  Requests for messages that a read at the end makes, which wait for what is not there.
 */
static unsigned requests_at_end(weir_store *store, tally *self)
{
    atomic_uint count = 0;
    uint64_t last = self->last;
    help_proxy_edit_up(proxy, count_requests, &count);
    assert_false(read_on(store, 100, self));
    assert_int_equal(self->last, last);
    help_proxy_edit_up(proxy, NULL, NULL);
    return atomic_load(&count);
}

/* --- Too little is said to be pending ---------------------------------------------- */

static void full_page_is_not_the_last_because_nothing_is_pending(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_through_proxy();
    put(store, 0, 1, 1, 100, 20);
    help_proxy_edit_down(proxy, pend_nothing, NULL);
    assert_int_equal(count_all(store, 0, 30).records, 100);
    assert_int_equal(count_all(store, 0, 1).records, 100);
    help_proxy_edit_down(proxy, NULL, NULL);
    close_store(&store);
}

/*  Its bytes are spent, so the request has ended without a word.                      */
static void page_of_as_many_bytes_as_asked_for_is_not_the_last(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_through_proxy();
    put(store, 0, 1, 1, 12, 20);
    help_proxy_edit_down(proxy, pend_nothing, NULL);
    for (size_t bytes = 300; bytes < 520; bytes++) { // one of them is met exactly
        weir_read read = {.max_records = 100, .max_bytes = bytes};
        read_once(store, &read);
        assert_in_range(read.reached.a, 1, 11);
        assert_true(read.more);
        weir_read_fini(&read);
    }
    help_proxy_edit_down(proxy, NULL, NULL);
    close_store(&store);
}

static void read_behind_a_full_page_at_the_end_does_not_wait(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_through_proxy();
    tally is = {0};
    put(store, 0, 1, 1, 30, 20);
    read_on(store, 30, &is);
    assert_int_equal(is.last, 30);
    assert_int_equal(requests_at_end(store, &is), 0);
    close_store(&store);
}

/* --- Too much is ------------------------------------------------------------------- */

/*  Messages that go before a consumer has given them stay in its count.               */
static void what_is_gone_is_not_waited_for(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_through_proxy();
    client other = client_at(server.port, NULL);
    tally is = {0};
    put(store, 0, 1, 1, 40, 20);
    read_on(store, 10, &is); // its consumer goes on
    for (uint64_t gone = 15; gone < 35; gone++)
        assert_int_equal(js_DeleteMsg(other.js, "weir_test_0", gone, NULL, NULL),
                         NATS_OK);
    read_on(store, 100, &is);
    assert_int_equal(is.last, 40);
    assert_int_equal(is.trimmed, 20);
    assert_int_equal(requests_at_end(store, &is), 0);
    assert_int_equal(put(store, 0, 1, 41, 5, 20), 45);
    assert_false(read_on(store, 100, &is));
    assert_int_equal(is.last, 45);
    assert_int_equal(requests_at_end(store, &is), 0);
    client_end(&other);
    close_store(&store);
}

/* --- What gets lost ---------------------------------------------------------------- */

/*  After `left` more messages one does not come.                                      */
static void lose_one(void *arg, char *bytes, size_t size)
{
    static const char head[] = "$JS.ACK.";
    int *left = arg;
    char *end = bytes + size, *at = bytes;
    while ((at = memmem(at, (size_t)(end - at), head, sizeof head - 1))) {
        if ((*left)-- == 0) memcpy(at, "$JS.NAK.", sizeof head - 1);
        at += sizeof head - 1;
    }
}

static void message_that_is_lost_on_the_way_is_no_gap(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_through_proxy();
    put(store, 0, 1, 1, 50, 20);
    for (int lost = 0; lost < 50; lost += 7) {
        int left = lost;
        help_proxy_edit_down(proxy, lose_one, &left);
        tally is = count_all(store, 0, 20);
        help_proxy_edit_down(proxy, NULL, NULL);
        assert_int_equal(is.records, 50);
        assert_int_equal(is.trimmed, 0);
    }
    close_store(&store);
}

/* --- Room -------------------------------------------------------------------------- */

static void one_is_read(weir_read *read)
{
    sem_post(read->owner);
}

/*  Each may bring as much as all of them together.                                   */
static void reads_that_wait_for_room_begin_when_there_is_some(void **state)
{
    NEEDS_SERVER();
    enum { reads = 50 };
    weir_store *store = store_at(server.port);
    weir_read read[reads];
    sem_t done;
    sem_init(&done, 0, 0);
    put(store, 0, 1, 1, 5, 20);
    for (int i = 0; i < reads; i++) {
        read[i] = (weir_read){
            .max_records = 5, .max_bytes = SIZE_MAX, .done = one_is_read, .owner = &done};
        store->class->read(store, &read[i]);
    }
    for (int i = 0; i < reads; i++)
        assert_true(wait_for_post(&done, patience_s));
    for (int i = 0; i < reads; i++) {
        if (read[i].err) fail_msg("%d: %s", i, read[i].text);
        assert_int_equal(read[i].reached.a, 5);
        weir_read_fini(&read[i]);
    }
    sem_destroy(&done);
    close_store(&store);
}

/* --- Any --------------------------------------------------------------------------- */

static void erase_some(client *other, uint32_t shard, unsigned last)
{
    char stream[64];
    snprintf(stream, sizeof stream, "weir_test_%u", shard);
    for (unsigned left = below(20); left; left--)
        js_DeleteMsg(other->js, stream, 1 + below(last), NULL, NULL); // or it is gone
}

/*  Behind each write all is read, though the stream drops what a consumer has still to
    give, and somebody takes out single ones.                                        */
static void follow_trimmed_stream(weir_store *store, client *other, uint32_t shard)
{
    unsigned begin = 10 + below(60), left = 10 + below(300), page = 1 + below(40);
    tally is = {0};
    put(store, shard, 1, 1, begin, 20);
    weir_read read = {.shard = shard, .max_records = 1 + below(begin), .max_bytes = 8192};
    read_once(store, &read);
    count_read(&is, &read);
    weir_read_fini(&read);
    if (below(2)) erase_some(other, shard, begin);
    for (unsigned last = begin, count; left; left -= count) {
        count = 1 + below(left);
        assert_int_equal(put(store, shard, 1, last + 1, count, 20), last + count);
        last += count;
        read_all(store, shard, page, &is);
        assert_int_equal(is.last, last);
    }
}

static void who_reads_until_there_is_no_more_has_all_that_was_stored(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.keep_records = 100;
    weir_store *store = new_store(&config);
    client other = client_at(server.port, NULL);
    for (uint32_t shard = 0; shard < rounds; shard++)
        follow_trimmed_stream(store, &other, shard);
    client_end(&other);
    close_store(&store);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(full_page_is_not_the_last_because_nothing_is_pending),
        ON(page_of_as_many_bytes_as_asked_for_is_not_the_last),
        ON(read_behind_a_full_page_at_the_end_does_not_wait),
        ON(what_is_gone_is_not_waited_for),
        ON(message_that_is_lost_on_the_way_is_no_gap),
        ON(reads_that_wait_for_room_begin_when_there_is_some),
        ON(who_reads_until_there_is_no_more_has_all_that_was_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
