#!/usr/bin/env bash
# One weir ships to another over tcp + CURVE, in a fresh folder, and the store is killed
# in between. Compares what arrived with expected/.
. "$(dirname "$0")/../fresh.sh"
enter collector.lua store.lua input.ndjson
export WEIR_RUN=$work/run

# run COMMAND ..: shows a command and runs it.
run() { echo "\$ weir $*"; "$weir" "$@"; }

# A free port of the loopback interface, which the store then listens at.
port=$("$python" -c 'import socket
s = socket.socket (); s.bind (("127.0.0.1", 0)); print (s.getsockname ()[1])')
endpoint=tcp://127.0.0.1:$port

echo "== each side has a certificate and lets the other in; secrets stay where they are"
run keys init --keys store-keys store
run keys init --keys collector-keys collector
run keys allow --keys store-keys --role produce collector-keys/self.pub
run keys allow --keys collector-keys --role none store-keys/self.pub

start_store() {
  "$weir" run --quiet --set listen=$endpoint store.lua 2>>store.log &
  store=$!
}

echo "== the store runs, the collector sends"
start_store
"$weir" run --quiet --set store=$endpoint collector.lua 2>collector.log
echo "$(count requests.ndjson) records are safe"

echo "== kill -9 the store; ten more requests while it is away"
kill -9 "$store"
wait "$store" 2>/dev/null || true
head -10 input.ndjson >>input.ndjson
"$weir" run --quiet --set store=$endpoint collector.lua 2>>collector.log &
collector=$!
until_true 10 grep -q 'link is down' collector.log

echo "== the store is back, and the collector with it"
start_store
wait "$collector"
echo "$(count requests.ndjson) records are safe"
kill "$store"
wait "$store"

same requests.ndjson
run audit weir-store
cat <<END

What happened: two weirs that know each other's certificates; the records arrived once
each and in order, as expected/ has them, although the store was killed in between.
Next: docs/security.md, docs/operations.md.
END
