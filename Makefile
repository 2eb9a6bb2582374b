# Weir. `make deps` installs what the rest needs; `make demo` and `make test` call it.
#
#   make              bin/weir and the libraries
#   make demo         the main job on a small real input
#   make test         unit and black-box tests (seeded sample of the long ones)
#   make soak         hundreds of kill rounds, long runs
#   make bench        every figure of docs/performance.md, as ratios; ROWS="links idle"
#   make asan tsan    the unit tests under sanitizers; asan: the black-box tests, too
#   make fuzz         every fuzz target for FUZZ_SECONDS
#   make format       clang-format, checked; FIX=1 rewrites
#   make layers       proves the include directions
#   make docs         writes docs/reference.md anew
#   make install      PREFIX=/usr/local DESTDIR=
#
# `make unit` and `make blackbox` are the halves of `make test`; both take MODE=.
#
# One tree a mode: build/$(MODE)/. CC=clang builds into build/$(MODE)-clang/.

VERSION  = 0.1.0
SOVERSION = 0
PREFIX   = /usr/local
MODE     = release
ifeq ($(origin CC),default)
CC       = gcc
endif
BUILD    = build/$(MODE)$(if $(findstring clang,$(CC)),-clang)
FUZZ_SECONDS = 60
PYTHON   = /usr/bin/python3

PACKAGES = libczmq-dev libzmq3-dev libsodium-dev liblua5.4-dev libxxhash-dev \
           libpcre2-dev libmicrohttpd-dev liblmdb-dev libhiredis-dev libnats-dev prometheus \
           redis-server nats-server \
           libcmocka-dev libc6-dev pkg-config gcc make python3 python3-pytest \
           python3-pytest-xdist python3-zmq python3-msgpack clang libclang-rt-14-dev clang-format lua5.4 \
           valgrind iproute2

WARN     = -Wall -Wextra -Wshadow -Werror
OPT_release = -O2 -g
# Sanitized: lines are all that a stack trace needs of debug information.
OPT_asan = -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all \
           -fno-omit-frame-pointer -DWEIR_SANITIZED
OPT_tsan = -O1 -g1 -fsanitize=thread -DWEIR_SANITIZED
OPT_fuzz = -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined \
           -fno-sanitize-recover=all -fno-omit-frame-pointer -DWEIR_SANITIZED
CFLAGS  += -std=gnu11 $(WARN) $(OPT_$(MODE)) -fPIC -pthread
CPPFLAGS += -I. -DWEIR_VERSION='"$(VERSION)"' -D_GNU_SOURCE
LDFLAGS += -pthread $(filter -fsanitize%,$(OPT_$(MODE)))
LUA_CFLAGS = $(shell pkg-config --cflags lua5.4 2>/dev/null)
LIBS     = -lczmq -lzmq -lsodium -lpcre2-8 -lxxhash -lmicrohttpd -llmdb -lhiredis -lnats -lm
LUA_LIBS = -l:liblua5.4.a -ldl -lm

LIB_SRC  = $(wildcard runtime/*.c) $(wildcard actors/*.c)
LUA_SRC  = $(filter-out lua/host.c,$(wildcard lua/*.c)) $(wildcard lua/bind/*.c)
TEST_SRC = $(wildcard tests/unit/test_*.c)
FUZZ_SRC = $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC = $(wildcard tests/bench/bench_*.c)
HELP_SRC = $(wildcard tests/unit/help_*.c)
C_FILES  = $(wildcard $(addsuffix /*.[ch],runtime actors lua lua/bind tests tests/* examples/*))

obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_OBJ  = $(call obj,$(LIB_SRC))
LUA_OBJ  = $(call obj,$(LUA_SRC))
HELP_OBJ = $(call obj,$(HELP_SRC))
ARCHIVES = $(BUILD)/lib/lua.a $(BUILD)/lib/libweir.a
TESTS    = $(patsubst %.c,$(BUILD)/%,$(TEST_SRC))
FUZZERS  = $(patsubst %.c,$(BUILD)/%,$(FUZZ_SRC))
BENCHES  = $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))

# What a C program may include: `#include "runtime/actor.h"` by `pkg-config weir`.
HEADERS  = $(addprefix runtime/,actor.h block.h book.h buffer.h cert.h clock.h codec.h \
             context.h dead.h delivery.h doc.h err.h filter.h frame.h framing.h health.h \
             histogram.h intake.h json.h ledger.h link.h log.h loop.h metrics.h monitor.h \
             options.h plan.h realm.h record.h refusals.h roster.h route.h rundir.h \
             screen.h socket.h spares.h tap.h utf8.h value.h vitals.h) \
           $(addprefix actors/,batcher.h bus.h bus_state.h catalog.h cursor.h engine.h \
             group_options.h groups.h jetstream_server.h poll.h program.h redis_server.h \
             ring.h sink_file.h sink_jetstream.h sink_link.h sink_null.h sink_redis.h \
             sink_stdout.h sink_zmq.h source_bus.h source_file.h source_generate.h \
             source_jetstream.h source_link.h source_redis.h source_stdin.h source_zmq.h \
             store.h zmq_port.h)

.PHONY: all demo test unit blackbox soak bench asan tsan fuzz fuzzers format layers docs \
        install uninstall clean deps need need-cmocka
.SECONDARY:

all: need $(BUILD)/bin/weir $(BUILD)/lib/libweir.a $(BUILD)/lib/libweir.so

# --- building -----------------------------------------------------------------

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(LUA_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/lib/libweir.a: $(LIB_OBJ)
$(BUILD)/lib/lua.a: $(LUA_OBJ)
$(ARCHIVES):
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/lib/libweir.so: $(LIB_OBJ) libweir.map
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libweir.so.$(SOVERSION) -Wl,--version-script=libweir.map \
	  $(LDFLAGS) $(LIB_OBJ) $(LIBS) -o $@

$(BUILD)/bin/weir: $(BUILD)/lua/host.o $(ARCHIVES)
	@mkdir -p $(@D) bin
	$(CC) $(LDFLAGS) $^ $(LIBS) $(LUA_LIBS) -o $@
	@if [ $(BUILD) = build/release ]; then ln -sf ../$@ bin/weir; fi

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(HELP_OBJ) $(ARCHIVES)
	$(CC) $(LDFLAGS) $^ $(LIBS) $(LUA_LIBS) -lcmocka -o $@

$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(ARCHIVES)
	$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LIBS) $(LUA_LIBS) -o $@

$(BUILD)/tests/bench/bench_redis $(BUILD)/tests/bench/bench_redis_sink: $(BUILD)/tests/unit/help_server.o
$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(ARCHIVES)
	$(CC) $(LDFLAGS) $^ $(LIBS) $(LUA_LIBS) -o $@

-include $(shell find build -name '*.d' 2>/dev/null)

# --- what must be there -------------------------------------------------------

# The tests start these themselves: a package of theirs that is installed here must start
# no service, neither now nor with the machine.
services   = prometheus redis-server nats-server
policy     = /usr/sbin/policy-rc.d
no_service = for p in $(services); do case "$$missing " in *" $$p "*) \
    u=/etc/systemd/system/$$p.service; $$sudo mkdir -p $${u%/*}; \
    [ -e $$u ] || $$sudo ln -s /dev/null $$u; \
    [ -e $(policy) ] || { printf '\043!/bin/sh\nexit 101\n' | $$sudo tee $(policy) >/dev/null; \
      $$sudo chmod 755 $(policy); trap "$$sudo rm -f $(policy)" EXIT; };; esac; done

deps:
	@missing=""; for p in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' \
	  || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $(no_service); \
	  $$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	  $$sudo apt-get install -y -q --no-install-recommends $$missing; fi

need:
	@$(call tools,$(CC) pkg-config)
	@$(call libraries,libczmq libzmq libsodium lua5.4 libpcre2-8 libxxhash libmicrohttpd lmdb hiredis libnats)

# Both are shell commands that fail when something is missing, and say what.
hint = { echo "Weir needs $$t, which is not installed: run 'make deps'" >&2; exit 1; }
tools = for t in $(1); do command -v $$t >/dev/null || $(hint); done
libraries = for t in $(1); do pkg-config --exists $$t || $(hint); done
modules = for t in $(1); do $(PYTHON) -c "import $$t" 2>/dev/null || $(hint); done

# --- proving ------------------------------------------------------------------

demo: deps
	@echo "building bin/weir (a minute or two at the first time)"
	@$(MAKE) -s --no-print-directory all
	@examples/access-log/run.sh
	@examples/orders/run.sh

test: deps
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory blackbox

# One line a program, its seconds and its own closing one; all that it said when it failed.
# Two at a time under sanitizers, whose bounds on time are wide. What mostly waits for
# servers runs beside the others, always two at a time. Long ones come first: none is left
# to run by itself at the end.
OF_SERVERS = $(foreach t,$(TESTS),$(if $(findstring redis,$t)$(findstring jetstream,$t),$t))
LONG = $(addprefix %/test_,store_disk_damage sandbox bus_state_damage disk_tools \
         store_redis_fails store_jetstream_cluster store_jetstream_faults redis_actors)
long_first = $(filter $(LONG),$(1)) $(filter-out $(LONG),$(1))
UNIT_JOBS = $(if $(filter release,$(MODE)),1,2)
run_unit = from=$$(date +%s); \
  timeout 600 $$0 >$$0.log 2>&1 || { cat $$0.log; echo "[  BADLY  ]" >>$$0.log; }; \
  printf "%-48s %3d s  %s\n" $$0 $$(($$(date +%s) - from)) \
    "$$(grep -E "^\[  (PASSED|FAILED)" $$0.log | tail -1)"
unit: export TSAN_OPTIONS += $(if $(wildcard tests/tsan.supp),suppressions=tests/tsan.supp)
unit: need-cmocka $(TESTS)
	@run() { xargs -r -P $$1 -n 1 sh -c '$(run_unit)'; }; \
	  printf '%s\n' $(call long_first,$(OF_SERVERS)) | grep . | run 2 & \
	  printf '%s\n' $(call long_first,$(filter-out $(OF_SERVERS),$(TESTS))) | grep . \
	  | run $(UNIT_JOBS); wait
	@cat $(TESTS:=.log) | awk ' \
	  /^\[  PASSED  \] [0-9]+ test/ { passed += $$4 } \
	  /^\[  FAILED  \] [0-9]+ test/ { failed += $$4 } \
	  /^\[  BADLY  \]/ { bad++ } \
	  END { printf "$(MODE): %d passed, %d failed in $(words $(TESTS)) programs, %d of " \
	        "which ended badly\n", passed, failed, bad; exit bad > 0 }'

need-cmocka: need
	@$(call libraries,cmocka)

PYTEST = $(PYTHON) -m pytest -q -p no:cacheprovider
blackbox: export WEIR = $(CURDIR)/$(BUILD)/bin/weir
blackbox: export SANITIZED = $(filter asan tsan,$(MODE))
blackbox: need $(BUILD)/bin/weir
	@$(call modules,pytest xdist zmq msgpack)
	@$(PYTEST) -n 4 --dist loadscope -m "not alone" tests/blackbox
	@$(PYTEST) -m alone tests/blackbox

soak: need all need-cmocka $(BUILD)/tests/unit/test_bus_failing
	@$(call modules,pytest)
	$(PYTEST) tests/soak/*.py

bench: need all $(BENCHES)
	$(PYTHON) tests/bench/run.py $(ROWS)

asan:
	@$(MAKE) --no-print-directory MODE=asan unit
	@$(MAKE) --no-print-directory MODE=fuzz CC=clang unit
	@$(MAKE) --no-print-directory MODE=asan blackbox

# The programs that have threads; libzmq is not instrumented (runtime/handover.h).
THREADED = actor actor_routes block bus bus_failing bus_local bus_reading bus_shards \
           bus_state clock engine groups_random help_store jetstream_actors ledger link \
           online poll poll_order realm redact redis_actors sandbox sink_file \
           source_file store_disk store_disk_keep store_jetstream \
           store_jetstream_access store_jetstream_ends \
           store_jetstream_faults store_redis \
           store_redis_cluster store_redis_fails store_redis_read tap uplink
tsan:
	@$(MAKE) --no-print-directory MODE=tsan unit \
	  TEST_SRC="$(THREADED:%=tests/unit/test_%.c)"

# Two at a time; of one that fails the end of what it said, and then no other begins.
run_fuzz = corpus=build/corpus/$${0\#\#*/}; mkdir -p $$corpus; \
  $$0 -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix=build/corpus/ $$corpus >$$0.log 2>&1 \
  || { tail -60 $$0.log; echo "$$0 FAILED"; exit 255; }; \
  printf "%-40s %s\n" $$0 "$$(grep "^Done" $$0.log)"
fuzz:
	@$(MAKE) --no-print-directory MODE=fuzz CC=clang fuzzers
	@printf '%s\n' $(patsubst %.c,build/fuzz-clang/%,$(FUZZ_SRC)) | \
	  xargs -r -P 2 -n 1 sh -c '$(run_fuzz)'

fuzzers: need $(FUZZERS)

format:
	@$(call tools,clang-format)
	@clang-format $(if $(FIX),-i,--dry-run -Werror) $(C_FILES)
	@echo "$(words $(C_FILES)) files $(if $(FIX),formatted,are formatted)"

layers:
	@tests/layers.sh
	@echo "includes point one way: runtime <- actors <- lua"

docs: $(BUILD)/bin/weir
	$(BUILD)/bin/weir reference >docs/reference.md

# --- installing -----------------------------------------------------------------

TO       = $(DESTDIR)$(PREFIX)
DOCS     = README.md LICENSE $(wildcard docs/*.md)

install: all
	install -D -m 755 $(BUILD)/bin/weir $(TO)/bin/weir
	install -D -m 644 $(BUILD)/lib/libweir.a $(TO)/lib/libweir.a
	install -D -m 755 $(BUILD)/lib/libweir.so $(TO)/lib/libweir.so.$(SOVERSION)
	ln -sf libweir.so.$(SOVERSION) $(TO)/lib/libweir.so
	for h in $(HEADERS); do install -D -m 644 $$h $(TO)/include/weir/$$h || exit 1; done
	install -D -m 644 -t $(TO)/share/doc/weir $(DOCS)
	sed -i 's|(docs/|(|g' $(TO)/share/doc/weir/README.md
	mkdir -p $(TO)/lib/pkgconfig $(TO)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|g' packaging/weir@.service \
	  >$(TO)/lib/systemd/system/weir@.service
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' weir.pc.in \
	  >$(TO)/lib/pkgconfig/weir.pc
	[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

uninstall:
	rm -f $(TO)/bin/weir $(TO)/lib/libweir.a $(TO)/lib/libweir.so \
	  $(TO)/lib/libweir.so.$(SOVERSION) $(TO)/lib/pkgconfig/weir.pc \
	  $(TO)/lib/systemd/system/weir@.service
	rm -rf $(TO)/include/weir $(TO)/share/doc/weir

clean:
	rm -rf build bin
