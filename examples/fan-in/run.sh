#!/usr/bin/env bash
# Runs the example in a fresh folder, compares its output with expected/, and tells
# what happened. WEIR names another binary.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
weir=$(realpath "${WEIR:-$here/../../bin/weir}")
python=${PYTHON:-/usr/bin/python3}
[ -x "$weir" ] || { echo "$weir is not there: run 'make' first" >&2; exit 1; }
"$python" -c 'import zmq' || { echo "python3-zmq is missing: run 'make deps'" >&2; exit 1; }
work=$(mktemp -d)
publishers=()
end() { kill "${publishers[@]}" 2>/dev/null || true; rm -rf "$work"; }
trap end EXIT
cp "$here/topology.lua" "$here/publisher.py" "$work"
cd "$work"

count() { wc -l <"$1" | tr -d ' '; }
lines() { cat cpu.ndjson mem.ndjson 2>/dev/null | wc -l; }

echo "== two publishers, and weir run topology.lua"
for kind in cpu mem; do
  "$python" publisher.py "ipc://$kind.sock" "$kind" &
  publishers+=($!)
done
"$weir" run --quiet topology.lua &
running=$!
publishers+=($running)
for _ in $(seq 600); do
  [ "$(lines)" -lt 1998 ] || break
  sleep 0.05
done
kill -TERM "$running"
wait "$running" || { echo "exit code 0 was expected" >&2; exit 1; }

echo "== the first record of each file"
head -qn 1 cpu.ndjson mem.ndjson

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

for kind in cpu mem; do
  cmp -s "$kind.ndjson" "$here/expected/$kind.ndjson" ||
    { echo "$kind.ndjson differs from expected/$kind.ndjson" >&2; exit 1; }
done
gaps=$(grep -o '"gaps":[0-9]*' weir-fan-in/report.json | head -1 | cut -d: -f2)
[ "$gaps" = 2 ] || { echo "2 gaps were expected: $gaps" >&2; exit 1; }
cat <<END

What happened: $(count cpu.ndjson) and $(count mem.ndjson) messages of the two publishers became lines of
cpu.ndjson and mem.ndjson, as expected/ has them. $gaps numbers were missing: each publisher
had left one out, as PUB does when a subscriber is too slow. Topics that the topology does
not name never left their publisher.
END
