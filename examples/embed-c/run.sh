#!/usr/bin/env bash
# Builds the C program, runs it twice with one state folder, compares what its consumer
# group took with expected/, and tells what happened. EMBED names another program.
. "$(dirname "$0")/../fresh.sh"
program=${EMBED:-$work/embed-c}

echo "== make embed-c: main.c is $(count "$here/main.c") lines"
[ -x "$program" ] || make -s -C "$here" OUT="$program"
cd "$work"

echo "== embed-c state 1000 400: appends 1000 readings, and its group takes 400"
"$program" state 1000 400 >>readings.ndjson
echo "== weir bus ls: what is stored, and how far the group is"
"$weir" bus ls state/bus/readings
echo "== embed-c state 1000 1600: appends 1000 more, and the group takes all the rest"
"$program" state 1000 1600 >>readings.ndjson

# Its workers share the readings, and its shards the records: their order is not that of
# the numbers.
sort -o readings.ndjson -t: -nk3 readings.ndjson
same readings.ndjson
stored=$("$weir" cat state/bus/readings 2>/dev/null | wc -l)
[ "$stored" = "$(count readings.ndjson)" ] || fail "$stored readings are stored"
cat <<END

What happened: three threads of a CZMQ program appended 2000 readings to a bus on disk, in
two runs; one shard became four meanwhile. A consumer group took each of them once: the
second run began behind what it had acknowledged in the first, as expected/ has them.
Now change examples/embed-c/main.c, or read docs/embedding.md.
END
