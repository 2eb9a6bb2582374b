-- Takes what the C program appends, keeps the even readings, and makes them safe in a
-- file: only then the program hears that they are.
source.link "in"   { listen = "ipc://in.sock" }
process     "even" { from = "in", each = function (r)
  if r.reading % 2 == 1 then return drop end
  return r
end }
sink.file   "out"  { from = "even", path = "readings.ndjson" }
