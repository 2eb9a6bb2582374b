-- The shop: adds its orders to the stream ORDERS, by region, and makes it when it is
-- missing. Any other client of NATS would do.

source.file    "orders" { path = "input.ndjson", at_end = stop }
sink.jetstream "out"    {
  from = "orders", url = env "NATS_URL", stream = "ORDERS", subject = "orders.{region}",
  id = "{id}",
}
