-- Takes what collectors send and writes it, with the name of the collector that its
-- certificate proves.
settings { name = "store" }
security { keys = env "STORE_KEYS" or "store-keys" }

source.link "collectors" { listen = param "listen" or "tcp://127.0.0.1:7447" }

process "stamp" {
  from = "collectors",
  each = function (r)
    r.collector = meta (r).peer
    return r
  end,
}

sink.file "requests" { from = "stamp", path = "requests.ndjson" }
