-- An access log is cleaned, gets new fields, and is split into two files.
--
--     weir run topology.lua

settings {
  name = "access-log",
  block = "512KB",                      -- a batch job: large blocks, few wake-ups
}

source.file "access" { path = "input.ndjson", at_end = stop }

local nullable = { "user", "bytes", "referrer", "agent" }

process "clean" {
  from = "access",
  workers = 2, key = "ip",              -- in parallel; each ip keeps its order
  where = "not path prefix '/health'",  -- what is left out here costs no Lua
  each = function (r)
    if not r.ip then return dead "no ip" end

    local path = r.path
    local mark = path:find ("?", 1, true)
    if mark then
      r.path, r.query = path:sub (1, mark - 1), path:sub (mark + 1)
    end
    for _, name in ipairs (nullable) do
      if r[name] == nil then r[name] = nil end      -- a null goes
    end
    r.time = time.format (r.ts)
    r.kib = (r.bytes or 0) // 1024
    r.bot = re.test (r.agent or "", "(?i)bot|crawler|spider")
    return r
  end,
  outlets = { errors = "status >= 500", good = otherwise },
}

sink.file "good"   { from = "clean.good",   path = "good.ndjson" }
sink.file "errors" { from = "clean.errors", path = "errors.ndjson" }
