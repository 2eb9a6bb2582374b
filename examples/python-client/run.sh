#!/usr/bin/env bash
# Runs the example in a fresh folder, compares its output with expected/, and tells
# what happened. WEIR names another binary, PYTHON another Python (with pyzmq, msgpack).
#
# weir_link.py is the link protocol (docs/wire.md) in one file: copy it into a program of
# your own. produce.py and consume.py show it at work, over ipc; for tcp it takes
# Curve (own key, server's certificate), see there.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
weir=$(realpath "${WEIR:-$here/../../bin/weir}")
python=${PYTHON:-/usr/bin/python3}
[ -x "$weir" ] || { echo "$weir is not there: run 'make' first" >&2; exit 1; }
"$python" -c 'import zmq, msgpack' ||
  { echo "apt install python3-zmq python3-msgpack" >&2; exit 1; }
work=$(mktemp -d)
children=()
end() {
  [ ${#children[@]} = 0 ] || kill "${children[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap end EXIT
cp "$here/topology.lua" "$work"
cd "$work"
orders=2000

count() { wc -l <"$1" | tr -d ' '; }

echo "== consume.py ipc://large large.ndjson, in the background"
"$python" "$here/consume.py" ipc://large large.ndjson &
children+=($!)
echo "== weir run topology.lua, in the background"
"$weir" run topology.lua 2>log &
weir_pid=$!
children+=($weir_pid)

echo "== produce.py ipc://orders $orders"
"$python" "$here/produce.py" ipc://orders "$orders"
kill "$weir_pid"
code=0
wait "$weir_pid" || code=$?
[ "$code" = 0 ] || { cat log >&2; echo "exit code 0 was expected: $code" >&2; exit 1; }

echo "== a record in all.ndjson, and the first in large.ndjson"
head -1 all.ndjson
head -1 large.ndjson
echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

for name in all large; do
  sort "$name.ndjson" | diff - "$here/expected/$name.ndjson" >/dev/null ||
    { echo "$name.ndjson differs from expected/$name.ndjson" >&2; exit 1; }
done
cat <<END

What happened: produce.py sent $(count all.ndjson) orders. They got a total, all of them went to
all.ndjson, and the $(count large.ndjson) large ones by a link to consume.py, which wrote them to disk
before it acknowledged. Only then had produce.py its own acknowledgement.
END
