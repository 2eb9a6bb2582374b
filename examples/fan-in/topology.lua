-- Two programs publish measurements on PUB sockets of their own. Weir subscribes to both
-- and writes a file for each kind; it counts what PUB has dropped.
--
--     python3 publisher.py ipc://cpu.sock cpu & python3 publisher.py ipc://mem.sock mem &
--     weir run topology.lua

settings { name = "fan-in" }

source.zmq "meters" {
  type = sub, connect = { "ipc://cpu.sock", "ipc://mem.sock" },
  topics = { "cpu.", "mem." },
  frames = { "topic", "sequence", "payload" },
}

process "sort" {
  from = "meters",
  each = function (r)
    r.topic = meta (r).headers.topic
    return r
  end,
  outlets = { cpu = "$headers.topic prefix 'cpu.'", mem = otherwise },
}

sink.file "cpu" { from = "sort.cpu", path = "cpu.ndjson" }
sink.file "mem" { from = "sort.mem", path = "mem.ndjson" }
