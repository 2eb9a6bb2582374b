-- Orders come in by a stream of Redis, are kept in a bus whose shards are streams of the
-- same server, and go out as bills: into a file, and the large ones into a stream for each
-- region, for whoever wants to hear of them.
--
--     REDIS_URL=redis://127.0.0.1:6379 weir run topology.lua

settings { name = "billing" }

source.redis "orders" {
  url = env "REDIS_URL", stream = "orders",
  field = "order",                      -- the field of an entry that is the order, as JSON
}

bus "kept" {
  from = "orders", key = "customer", shards = 2,
  store = redis { url = env "REDIS_URL" },
}

process "bill" {
  from = "kept",
  each = function (r)
    return { id = r.id, customer = r.customer, region = r.region, total = r.count * r.price }
  end,
}

sink.file "bills" { from = "bill", path = "bills.ndjson" }

sink.redis "large" {
  from = "bill", where = "total >= 5000",
  url = env "REDIS_URL", stream = "large:{region}",
  fields = { order = "{id}", customer = "{customer}", total = "{total}" },
  id = "{id}",                          -- once, however often it is tried
}
