#include <stdlib.h>
#include "actors/redis_store.h"

enum { nodes_max = 1000 }; // as Redis says of a cluster

/* --- Connections ------------------------------------------------------------------- */

static void writer_opened(void *arg)
{
    weir_redis_node_opened(arg);
}

static void writer_ended(void *arg)
{
    weir_redis_node_ended(arg);
}

/*  What waits for it is looked at in each turn.                                     */
static void reader_opened(void *arg)
{
    weir_redis *self = ((weir_redis_node *)arg)->store;
    pthread_mutex_lock(&self->mutex);
    self->reads_error[0] = 0;
    pthread_mutex_unlock(&self->mutex);
}

static void reader_ended(void *arg)
{
    weir_redis_node *self = arg;
    if (!weir_redis_conn_failures(self->reader)) return;
    weir_redis_reads_failed(self);
    weir_redis_survey_failed(self->store, self);
}

static void connect_both(weir_redis_node *self)
{
    weir_redis_conn_config config = {.url = &self->url,
                                     .name = "writes",
                                     .timeout_us = self->store->config.timeout_us,
                                     .nonce = self->store->config.nonce,
                                     .opened = writer_opened,
                                     .ended = writer_ended,
                                     .arg = self};
    self->writer = weir_redis_conn_new(&config);
    config.name = "reads";
    config.opened = reader_opened;
    config.ended = reader_ended;
    self->reader = weir_redis_conn_new(&config);
}

/* --- Nodes ------------------------------------------------------------------------- */

static weir_redis_node *add(weir_redis *self, const weir_redis_url *url)
{
    weir_redis_node *node = calloc(1, sizeof *node), **end = &self->nodes;
    if (!node) abort();
    while (*end)
        end = &(*end)->next;
    *end = node;
    node->store = self;
    node->url = *url;
    node->ready_end = &node->ready;
    connect_both(node);
    return node;
}

weir_redis_node *weir_redis_node_first(weir_redis *self, const weir_redis_url *url)
{
    return add(self, url);
}

weir_redis_node *weir_redis_node_at(weir_redis *self, const char *host, uint16_t port)
{
    weir_redis_url url;
    size_t count = 0;
    for (weir_redis_node *node = self->nodes; node; node = node->next, count++)
        if (node->url.port == port && !strcmp(node->url.host, host)) return node;
    weir_redis_url_at(&url, &self->nodes->url, host, port);
    if (count < nodes_max && (self->config.plaintext || weir_redis_url_is_local(&url)))
        return add(self, &url);
    weir_redis_url_fini(&url);
    return NULL;
}

void weir_redis_nodes_destroy(weir_redis *self)
{
    for (weir_redis_node *node; (node = self->nodes);) {
        weir_redis_conn_destroy(&node->writer);
        weir_redis_conn_destroy(&node->reader);
        self->nodes = node->next;
        weir_redis_url_fini(&node->url);
        free(node);
    }
}

/* --- Shards ------------------------------------------------------------------------ */

static void leave(weir_redis_shard *shard)
{
    weir_redis_node *node = shard->node;
    weir_redis_shard **at = &node->ready;
    if (!shard->ready) return;
    while (*at != shard)
        at = &(*at)->ready_next;
    *at = shard->ready_next;
    if (!*at) node->ready_end = at;
    shard->ready = false;
}

void weir_redis_shard_go(weir_redis_shard *shard, weir_redis_node *node)
{
    leave(shard);
    shard->node = node;
    weir_redis_shard_ready(shard);
}

static weir_redis_node *next_ready(const weir_redis *self)
{
    weir_redis_node *node = self->nodes;
    while (node && (!weir_redis_conn_is_ready(node->writer) ||
                    !weir_redis_conn_is_ready(node->reader)))
        node = node->next;
    return node;
}

void weir_redis_node_leave(weir_redis_node *self)
{
    weir_redis *store = self->store;
    weir_redis_node *to = next_ready(store);
    for (size_t i = 0; to && i < store->shard_count; i++)
        if (store->shards[i]->node == self) weir_redis_shard_go(store->shards[i], to);
}

bool weir_redis_shard_move(weir_redis *self, weir_redis_shard *shard, const char *error)
{
    char host[256];
    uint16_t port;
    if (!weir_redis_moved(error, host, &port)) return false;
    weir_redis_node *node =
        weir_redis_node_at(self, host[0] ? host : shard->node->url.host, port);
    if (node) weir_redis_shard_go(shard, node);
    return node != NULL;
}
