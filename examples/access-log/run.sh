#!/usr/bin/env bash
# Runs the example in a fresh folder, compares its output with expected/, and tells
# what happened. WEIR names another binary.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
weir=$(realpath "${WEIR:-$here/../../bin/weir}")
[ -x "$weir" ] || { echo "$weir is not there: run 'make' first" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/topology.lua" "$here/input.ndjson" "$work"
cd "$work"

count() { wc -l <"$1" | tr -d ' '; }

echo "== weir graph topology.lua: $(count input.ndjson) requests of a web log go through Lua"
"$weir" graph topology.lua

echo "== weir run topology.lua"
code=0
"$weir" run topology.lua || code=$?
[ "$code" = 3 ] || { echo "exit code 3 was expected (clean, with dead letters): $code" >&2; exit 1; }

echo "== a record on its way in, and out again: no nulls, but query, time, kib, bot"
grep '"id":13,' input.ndjson
grep '"id":13,' good.ndjson
echo "== the dead letters, by reason"
sed -E 's/.*"reason":"([^"]*)","error":"([^"]*)".*/\1: \2/' weir-access-log/dead.ndjson

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

# Two workers: the order is kept for each ip, not over all.
for name in good errors; do
  sort "$name.ndjson" | diff - "$here/expected/$name.ndjson" >/dev/null ||
    { echo "$name.ndjson differs from expected/$name.ndjson" >&2; exit 1; }
done
cat <<END

What happened: of $(count input.ndjson) records, health checks were filtered out, two that were
broken became dead letters, $(count errors.ndjson) server errors went to errors.ndjson and $(count good.ndjson) others to
good.ndjson, as expected/ has them. Nothing was lost, and the audit proves it.
Now change examples/access-log/topology.lua, or read docs/quick-start.md.
END
