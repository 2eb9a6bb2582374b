#!/usr/bin/env bash
# Runs the example against a Redis server of its own, compares its output with expected/, and
# tells what happened.
. "$(dirname "$0")/../fresh.sh"
needs_program redis-server redis-cli
enter topology.lua input.ndjson

echo "== redis-server, in the background, on a unix socket; each write is on disk"
redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work" --save "" \
  --appendonly yes --appendfsync always >redis.log &
export REDIS_URL="unix://$work/redis.sock"
redis() { redis-cli -s redis.sock "$@"; }
until_true 10 redis ping >ping.log

echo "== weir check --online topology.lua"
"$weir" check --online topology.lua

echo "== weir run topology.lua, and a shop that adds orders: XADD orders * order '{..}'"
"$weir" run topology.lua 2>log &
running=$!
sed "s/.*/XADD orders * order '&'/" input.ndjson | redis >added.log &
adding=$!

until_true 30 has bills.ndjson 100
echo "== weir is killed, and run again"
kill -9 "$running"
wait "$running" 2>killed.log || true
"$weir" run topology.lua 2>log &
running=$!
wait "$adding"

bills() { sort -u bills.ndjson | wc -l; }
all_billed() { [ "$(bills)" = "$(count input.ndjson)" ]; }
until_true 30 all_billed
none_pending() { [ "$(redis XPENDING orders billing/orders | head -1)" = 0 ]; }
until_true 30 none_pending
until_true 30 "$weir" ctl flush billing/kept >flush.log
echo "== weir pos ls: how far the group of bill has read"
"$weir" pos ls
echo "== weir cat billing/kept, the first order of shard 0"
"$weir" cat billing/kept --where '$shard == 0' --limit 1 --json 2>/dev/null
kill "$running"
exits 0 wait "$running"
echo "== weir audit topology.lua: where each record is, of the second run"
"$weir" audit topology.lua

echo "== XRANGE large:eu - + COUNT 1"
redis XRANGE large:eu - + COUNT 1
for region in asia eu us; do
  redis --raw XRANGE "large:$region" - + | paste -d' ' - - - - - - - |
    sed "s/^[^ ]*/$region/" | sort -k5,5n
done >large.txt
sort -u -o bills.ndjson bills.ndjson
same bills.ndjson large.txt
cat <<END

What happened: $(count bills.ndjson) orders came by the stream "orders" and were kept in two streams of the bus,
"weir:kept:0" and "weir:kept:1". Weir was killed amid it and went on: no order is missing,
and each of the $(count large.txt) large ones is in its stream once, since Redis knows their ids.
END
