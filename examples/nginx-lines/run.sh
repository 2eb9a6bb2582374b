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
cp "$here/topology.lua" "$here/access.log" "$work"
cd "$work"

count() { wc -l <"$1" | tr -d ' '; }

echo "== weir run topology.lua"
code=0
"$weir" run topology.lua || code=$?
[ "$code" = 3 ] || { echo "exit code 3 was expected (clean, with dead letters): $code" >&2; exit 1; }

echo "== a line of access.log, and its record in access.ndjson"
head -1 access.log
head -1 access.ndjson
echo "== the dead letter: a line of the error log that strayed into this one"
sed -E 's/.*"error":"([^"]*)".*"text":"([^"]*)".*/\2\n\1/' weir-nginx-lines/dead.ndjson

echo "== weir audit topology.lua: where each record is"
"$weir" audit topology.lua

diff access.ndjson "$here/expected/access.ndjson" >/dev/null ||
  { echo "access.ndjson differs from expected/access.ndjson" >&2; exit 1; }
cat <<END

What happened: $(count access.log) lines were read, $(count access.ndjson) became records in access.ndjson, as
expected/ has them, and one that is no request became a dead letter.
END
