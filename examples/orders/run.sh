#!/usr/bin/env bash
# Runs the example in a fresh folder, compares its output with expected/, and tells
# what happened. WEIR names another binary, PYTHON another Python (with pyzmq, msgpack).
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
weir=$(realpath "${WEIR:-$here/../../bin/weir}")
python=${PYTHON:-/usr/bin/python3}
[ -x "$weir" ] || { echo "$weir is not there: run 'make' first" >&2; exit 1; }
"$python" -c 'import zmq, msgpack' ||
  { echo "python3-zmq or python3-msgpack is missing: run 'make deps'" >&2; exit 1; }
work=$(mktemp -d)
children=()
end() {
  [ ${#children[@]} = 0 ] || kill "${children[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap end EXIT
cp "$here"/{topology.lua,shop.py} "$here/../python-client/weir_link.py" "$work"
cd "$work"
orders=2000

count() { cat "$1" 2>/dev/null | wc -l | tr -d ' '; }
until_there() { # FILE COUNT
  for _ in $(seq 600); do
    [ "$(count "$1")" -lt "$2" ] || return 0
    sleep 0.05
  done
  echo "$1 has $(count "$1") lines instead of $2" >&2
  cat log >&2
  exit 1
}

echo "== weir run topology.lua, and two shops, in the background"
"$weir" run topology.lua 2>log &
running=$!
children+=("$running")
"$python" shop.py ipc://shops north 0 "$orders" &
north=$!
"$python" shop.py ipc://shops south 100000 "$orders" &
south=$!
children+=("$north" "$south")

until_there bills.ndjson 200
echo "== weir ctl scale orders/events --to 4, while they send"
"$weir" ctl scale orders/events --to 4
wait "$north" "$south"
until_there bills.ndjson $((2 * orders))
until_there large.ndjson $((orders / 9 * 2))

echo "== weir pos ls: how far the groups have read"
"$weir" pos ls
kill "$running"
code=0
wait "$running" || code=$?
[ "$code" = 0 ] || { cat log >&2; echo "exit code 0 was expected: $code" >&2; exit 1; }

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua
echo "== weir bus ls: the store, which nobody uses now"
"$weir" bus ls weir-orders/bus/events
echo "== weir cat, the first order that is stored in shard 0"
"$weir" cat weir-orders/bus/events --where '$shard == 0' --limit 1 --json 2>/dev/null

for name in bills large; do
  sort "$name.ndjson" | diff - "$here/expected/$name.ndjson" >/dev/null ||
    { echo "$name.ndjson differs from expected/$name.ndjson" >&2; exit 1; }
done
# The ids of a customer rise: his orders kept their order though vnodes moved.
"$python" - <<'END'
import json
last = {}
for line in open("bills.ndjson"):
    bill = json.loads(line)
    assert bill["id"] > last.get(bill["customer"], -1), bill
    last[bill["customer"]] = bill["id"]
END
cat <<END

What happened: two shops sent $(count bills.ndjson) orders. Each was on disk before its shop heard that
it is safe. While they sent, one shard became four. The group of bill made a bill of each
order and kept every customer's order, the group watch picked the $(count large.ndjson) large ones, each
at its own pace; stopped and started again, both would go on where they were.
END
