-- Lines of an access log, as nginx and Apache write them, become NDJSON.
--
--     weir run topology.lua

settings { name = "nginx-lines" }

source.file "log" { path = "access.log", framing = lines, at_end = stop }

process "parse" {
  from = "log",
  each = function (r)
    local fields, why = clf (raw (r))
    if not fields then return dead (why) end
    return fields
  end,
}

sink.file "out" { from = "parse", path = "access.ndjson" }
