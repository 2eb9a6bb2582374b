#!/usr/bin/env bash
# Builds the C program, lets it send to a weir in a fresh folder, compares the output with
# expected/, and tells what happened. WEIR names another binary, EMBED another program.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
weir=$(realpath "${WEIR:-$here/../../bin/weir}")
[ -x "$weir" ] || { echo "$weir is not there: run 'make' first" >&2; exit 1; }
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
cp "$here/topology.lua" "$work"

echo "== make embed-c: a CZMQ program of $(wc -l <"$here/main.c" | tr -d ' ') lines"
program=${EMBED:-$work/embed-c}
[ -x "$program" ] || make -s -C "$here" OUT="$program"
cd "$work"

echo "== weir run topology.lua, and beside it embed-c ipc://in.sock 1000"
"$weir" run --quiet topology.lua &
pid=$!
"$program" ipc://in.sock 1000

kill -TERM "$pid"
wait "$pid"
pid=
echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

diff readings.ndjson "$here/expected/readings.ndjson" >/dev/null ||
  { echo "readings.ndjson differs from expected/readings.ndjson" >&2; exit 1; }
cat <<END

What happened: the program's own CURVE socket took 1000 readings, and its bus sent them to
the weir, which wrote the even ones to readings.ndjson, as expected/ has them. The program
heard that all were safe and ended; its signals and its zauth stayed its own.
Now change examples/embed-c/main.c, or read docs/embedding.md.
END
