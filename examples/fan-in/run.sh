#!/usr/bin/env bash
# Runs the example, compares its output with expected/, and tells what happened.
. "$(dirname "$0")/../fresh.sh"
needs_python zmq
enter topology.lua publisher.py

echo "== two publishers, and weir run topology.lua"
for kind in cpu mem; do
  "$python" publisher.py "ipc://$kind.sock" "$kind" &
done
"$weir" run --quiet topology.lua &
running=$!
for kind in cpu mem; do
  until_true 30 has "$kind.ndjson" 999
done
kill "$running"
exits 0 wait "$running"

echo "== the first record of each file"
head -qn 1 cpu.ndjson mem.ndjson

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

same cpu.ndjson mem.ndjson
gaps=$(grep -o '"gaps":[0-9]*' weir-fan-in/report.json | head -1 | cut -d: -f2)
[ "$gaps" = 2 ] || fail "2 gaps were expected: $gaps"
cat <<END

What happened: $(count cpu.ndjson) and $(count mem.ndjson) messages of the two publishers became lines of
cpu.ndjson and mem.ndjson, as expected/ has them. $gaps numbers were missing: each publisher
had left one out, as PUB does when a subscriber is too slow. Topics that the topology does
not name never left their publisher.
END
