#!/usr/bin/env bash
# Runs the example, compares its output with expected/, and tells what happened.
. "$(dirname "$0")/../fresh.sh"
needs_python zmq msgpack
enter topology.lua shop.py ../python-client/weir_link.py
orders=2000

echo "== weir run topology.lua, and two shops, in the background"
"$weir" run topology.lua 2>log &
running=$!
"$python" shop.py ipc://shops north 0 "$orders" &
north=$!
"$python" shop.py ipc://shops south 100000 "$orders" &
south=$!

until_true 30 has bills.ndjson 200
echo "== weir ctl scale orders/events --to 4, while they send"
"$weir" ctl scale orders/events --to 4
wait "$north" "$south"
until_true 30 has bills.ndjson $((2 * orders))
until_true 30 has large.ndjson $((orders / 9 * 2))

echo "== weir pos ls: how far the groups have read"
"$weir" pos ls
kill "$running"
exits 0 wait "$running"

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua
echo "== weir bus ls: the store, which nobody uses now"
"$weir" bus ls weir-orders/bus/events
echo "== weir cat, the first order that is stored in shard 0"
"$weir" cat weir-orders/bus/events --where '$shard == 0' --limit 1 --json 2>/dev/null

# The ids of a customer rise: his orders kept their order though vnodes moved.
"$python" - <<'END'
import json
last = {}
for line in open("bills.ndjson"):
    bill = json.loads(line)
    assert bill["id"] > last.get(bill["customer"], -1), bill
    last[bill["customer"]] = bill["id"]
END
for name in bills large; do
  sort -o "$name.ndjson" "$name.ndjson"
done
same bills.ndjson large.ndjson
cat <<END

What happened: two shops sent $(count bills.ndjson) orders. Each was on disk before its shop heard that
it is safe. While they sent, one shard became four. The group of bill made a bill of each
order and kept every customer's order, the group watch picked the $(count large.ndjson) large ones, each
at its own pace; stopped and started again, both would go on where they were.
END
