-- Python programs send orders into a durable bus, which two groups read at their own
-- pace.
--
--     weir run topology.lua

settings { name = "orders" }

source.link "shops" { listen = "ipc://shops" }     -- the producers connect here

bus "events" {
  from = "shops",                                  -- keyed by the records' own key
  shards = 1, scale = { min = 1, max = 4, cooldown = "1h" },  -- here by command only
  store = disk { keep = { age = "7d" } },          -- an order is on disk before it is
}                                                  -- acknowledged

-- The group is named after the node that reads.
process "bill" {
  from = "events",
  each = function (r)
    return { id = r.id, customer = meta (r).key, total = r.count * r.price }
  end,
}
sink.file "bills" { from = "bill", path = "bills.ndjson" }

sink.file "large" {
  from = group "watch" { of = "events", start = "start" },
  where = "count >= 9", path = "large.ndjson",
}
