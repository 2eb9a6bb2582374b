-- Orders come in by a stream of NATS JetStream, are kept in a bus whose shards are streams of
-- the same server, and go out as bills: into a file, and the large ones into a stream, by
-- region, for whoever wants to hear of them.
--
--     NATS_URL=nats://127.0.0.1:4222 weir run topology.lua

settings { name = "billing" }

source.jetstream "orders" {
  url = env "NATS_URL", stream = "ORDERS",   -- waits until somebody has made it
}

bus "kept" {
  from = "orders", key = "customer", shards = 2,
  store = jetstream { url = env "NATS_URL" },   -- replicas = 3 on a cluster
}

process "bill" {
  from = "kept",
  each = function (r)
    return { id = r.id, customer = r.customer, region = r.region, total = r.count * r.price }
  end,
}

sink.file "bills" { from = "bill", path = "bills.ndjson" }

sink.jetstream "large" {
  from = "bill", where = "total >= 5000",
  url = env "NATS_URL", stream = "LARGE", subject = "large.{region}",
  id = "{id}",                          -- once, however often it is tried
}
