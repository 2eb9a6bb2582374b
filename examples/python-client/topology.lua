-- A Python program sends orders in, and another one takes the large ones out.
--
--     weir run topology.lua

settings { name = "python-client" }

source.link "orders" { listen = "ipc://orders" }      -- produce.py connects here

process "price" {
  from = "orders",
  each = function (r)
    r.total = r.count * r.price
    r.shop = meta (r).headers.shop
    return r
  end,
}

sink.link "large" {                                   -- consume.py listens here
  from = "price", where = "total >= 5000",
  connect = "ipc://large",
}
sink.file "all" { from = "price", path = "all.ndjson" }
