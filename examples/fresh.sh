# What the run.sh of every example begins with: a fresh folder, which goes at the end with
# whatever still runs in it. WEIR names another binary, PYTHON another Python.
#
#     . "$(dirname "$0")/../fresh.sh"
#     enter topology.lua input.ndjson       copies them into the folder and goes there
#
# $here is the example's own folder. What a script has left in the background ends with it.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
weir=$(realpath "${WEIR:-$here/../../bin/weir}")
python=${PYTHON:-/usr/bin/python3}
work=$(mktemp -d)

end() {
  kill $(jobs -p) 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap end EXIT

# With what was said into the file log.
fail() {
  [ ! -s "$work/log" ] || cat "$work/log" >&2
  echo "$*" >&2
  exit 1
}

[ -x "$weir" ] || fail "$weir is not there: run 'make' first"

needs_python() { # MODULE ..
  for module in "$@"; do
    "$python" -c "import $module" 2>/dev/null ||
      fail "python3-$module is missing: run 'make deps'"
  done
}

needs_program() { # NAME ..; servers may lie where only root looks
  PATH=$PATH:/usr/sbin
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "$program is missing: run 'make deps'"
  done
}

enter() { # FILE ..
  (cd "$here" && cp "$@" "$work")
  cd "$work"
}

count() { cat "$1" 2>/dev/null | wc -l | tr -d ' '; } # lines; 0: there is no such file
has() { [ "$(count "$1")" -ge "$2" ]; }               # FILE LINES

until_true() { # SECONDS COMMAND ..
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $end ] || fail "waited in vain for: $*"
    sleep 0.02
  done
}

exits() { # CODE COMMAND ..: it must end with that code
  local code=0 expected=$1
  shift
  "$@" || code=$?
  [ "$code" = "$expected" ] || fail "exit code $expected was expected: $code"
}

same() { # FILE ..: as expected/ has them
  for file in "$@"; do
    cmp -s "$file" "$here/expected/$file" || fail "$file differs from expected/$file"
  done
}
