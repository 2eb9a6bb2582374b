-- Reads requests and ships them to the store over tcp with CURVE. A line counts as read
-- only when the store has it on disk; until then it is sent again, whatever happens to
-- the connection or to one of the two.
settings { name = "collector" }
security { keys = env "COLLECTOR_KEYS" or "collector-keys" }

source.file "access" { path = "input.ndjson", at_end = stop }

process "trim" {
  from = "access",
  where = "not path prefix '/health'",
  each = function (r)
    r.agent = nil
    return r
  end,
}

sink.link "store" {
  from = "trim",
  connect = param "store" or "tcp://127.0.0.1:7447",
  server = "store",          -- the other side must have this name's certificate
}
