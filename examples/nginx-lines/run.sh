#!/usr/bin/env bash
# Runs the example, compares its output with expected/, and tells what happened.
. "$(dirname "$0")/../fresh.sh"
enter topology.lua access.log

echo "== weir run topology.lua (exit code 3: clean, with dead letters)"
exits 3 "$weir" run topology.lua

echo "== a line of access.log, and its record in access.ndjson"
head -1 access.log
head -1 access.ndjson
echo "== the dead letter: a line of the error log that strayed into this one"
sed -E 's/.*"error":"([^"]*)".*"text":"([^"]*)".*/\2\n\1/' weir-nginx-lines/dead.ndjson

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

same access.ndjson
cat <<END

What happened: $(count access.log) lines were read, $(count access.ndjson) became records in access.ndjson, as
expected/ has them, and one that is no request became a dead letter.
END
