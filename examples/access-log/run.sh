#!/usr/bin/env bash
# Runs the example, compares its output with expected/, and tells what happened.
. "$(dirname "$0")/../fresh.sh"
enter topology.lua input.ndjson

echo "== weir graph topology.lua: $(count input.ndjson) requests of a web log go through Lua"
"$weir" graph topology.lua

echo "== weir run topology.lua (exit code 3: clean, with dead letters)"
exits 3 "$weir" run topology.lua

echo "== a record on its way in, and out again: no nulls, but query, time, kib, bot"
grep '"id":13,' input.ndjson
grep '"id":13,' good.ndjson
echo "== the dead letters, by reason"
sed -E 's/.*"reason":"([^"]*)","error":"([^"]*)".*/\1: \2/' weir-access-log/dead.ndjson

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

# Two workers: the order is kept for each ip, not over all.
for name in good errors; do
  sort -o "$name.ndjson" "$name.ndjson"
done
same good.ndjson errors.ndjson
cat <<END

What happened: of $(count input.ndjson) records, health checks were filtered out, two that were
broken became dead letters, $(count errors.ndjson) server errors went to errors.ndjson and $(count good.ndjson) others to
good.ndjson, as expected/ has them. Nothing was lost, and the audit proves it.
Now change examples/access-log/topology.lua, or read docs/quick-start.md.
END
