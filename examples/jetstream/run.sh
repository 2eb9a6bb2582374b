#!/usr/bin/env bash
# Runs the example against a NATS server of its own, compares its output with expected/, and
# tells what happened.
. "$(dirname "$0")/../fresh.sh"
needs_program nats-server
enter topology.lua shop.lua hear.lua input.ndjson

echo "== nats-server -js, in the background, on a port of its own"
nats-server -js -a 127.0.0.1 -p -1 -sd "$work/js" --ports_file_dir "$work" -l nats.log &
tells_port() { NATS_URL=$(grep -o 'nats://[0-9.:]*' nats-server_*.ports); }
until_true 10 tells_port
export NATS_URL

echo "== weir run topology.lua, and a shop that sends orders: weir run shop.lua"
"$weir" run topology.lua 2>log &
running=$!
"$weir" run --quiet shop.lua 2>shop.log &
shop=$!

until_true 30 has bills.ndjson 100
echo "== weir is killed, and run again"
kill -9 "$running"
wait "$running" 2>killed.log || true
"$weir" run topology.lua 2>log &
running=$!
exits 0 wait "$shop"

echo "== weir check --online topology.lua"
"$weir" check --online topology.lua

all_billed() { [ "$(sort -u bills.ndjson | wc -l)" = "$(count input.ndjson)" ]; }
until_true 60 all_billed
until_true 30 "$weir" ctl flush billing/kept >flush.log
echo "== weir pos ls: how far the group of bill has read"
"$weir" pos ls
echo "== weir cat billing/kept, the first order of shard 0"
"$weir" cat billing/kept --where '$shard == 0' --limit 1 --json 2>/dev/null
kill "$running"
exits 0 wait "$running"
echo "== weir audit topology.lua: where each record is, of the second run"
"$weir" audit topology.lua

echo "== weir run hear.lua --until-idle: who listens to large.eu and large.asia"
"$weir" run --quiet hear.lua --until-idle 2>hear.log
sort -u -o bills.ndjson bills.ndjson
sort -o heard.ndjson heard.ndjson
same bills.ndjson heard.ndjson
cat <<END

What happened: $(count bills.ndjson) orders came by the stream ORDERS and were kept in two streams of the bus,
weir_kept_0 and weir_kept_1. Weir was killed amid it and went on: no order is missing, and
each of the $(count heard.ndjson) large ones of two regions was heard of once, since the server knows their ids.
END
