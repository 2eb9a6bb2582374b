#!/usr/bin/env bash
# Runs the example, compares its output with expected/, and tells what happened.
#
# weir_link.py is the link protocol (docs/wire.md) in one file: copy it into a program of
# your own. produce.py and consume.py show it at work, over ipc; for tcp it takes
# Curve (own key, server's certificate), see there.
. "$(dirname "$0")/../fresh.sh"
needs_python zmq msgpack
enter topology.lua
orders=2000

echo "== consume.py ipc://large large.ndjson, in the background"
"$python" "$here/consume.py" ipc://large large.ndjson &
echo "== weir run topology.lua, in the background"
"$weir" run topology.lua 2>log &
running=$!

echo "== produce.py ipc://orders $orders"
"$python" "$here/produce.py" ipc://orders "$orders"
kill "$running"
exits 0 wait "$running"

echo "== a record in all.ndjson, and the first in large.ndjson"
head -1 all.ndjson
head -1 large.ndjson
echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

for name in all large; do
  sort -o "$name.ndjson" "$name.ndjson"
done
same all.ndjson large.ndjson
cat <<END

What happened: produce.py sent $(count all.ndjson) orders. They got a total, all of them went to
all.ndjson, and the $(count large.ndjson) large ones by a link to consume.py, which wrote them to disk
before it acknowledged. Only then had produce.py its own acknowledgement.
END
