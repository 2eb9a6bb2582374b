# Weir. `make deps` installs what the rest needs; `make demo` and `make test` call it.
#
#   make              bin/weir and the libraries
#   make demo         the main job on a small real input
#   make test         unit and black-box tests (seeded sample of the long ones)
#   make soak         hundreds of kill rounds, long runs
#   make bench        every figure of docs/performance.md, as ratios
#   make asan tsan    the unit and black-box tests under sanitizers
#   make fuzz         every fuzz target for FUZZ_SECONDS
#   make format       clang-format, checked; FIX=1 rewrites
#   make layers       proves the include directions
#   make install      PREFIX=/usr/local DESTDIR=
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

PACKAGES = libczmq-dev libzmq3-dev liblua5.4-dev libxxhash-dev libpcre2-dev \
           libcmocka-dev pkg-config gcc make python3 python3-pytest python3-zmq \
           python3-msgpack clang libclang-rt-14-dev clang-format lua5.4 valgrind

WARN     = -Wall -Wextra -Wshadow -Werror
OPT_release = -O2 -g
OPT_asan = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
           -fno-omit-frame-pointer -DWEIR_SANITIZED
OPT_tsan = -O1 -g -fsanitize=thread -DWEIR_SANITIZED
OPT_fuzz = -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
           -fno-sanitize-recover=all -DWEIR_SANITIZED
CFLAGS  += -std=gnu11 $(WARN) $(OPT_$(MODE)) -fPIC -pthread
CPPFLAGS += -I. -DWEIR_VERSION='"$(VERSION)"' -D_GNU_SOURCE
LDFLAGS += -pthread $(filter -fsanitize%,$(OPT_$(MODE)))
LUA_CFLAGS = $(shell pkg-config --cflags lua5.4 2>/dev/null)
LIBS     = -lczmq -lzmq -lpcre2-8 -lxxhash -lm
LUA_LIBS = -l:liblua5.4.a -ldl

LIB_SRC  = $(wildcard runtime/*.c) $(wildcard actors/*.c)
BIN_SRC  = $(filter-out lua/host.c,$(wildcard lua/*.c)) $(wildcard lua/bind/*.c)
TEST_SRC = $(wildcard tests/unit/test_*.c)
FUZZ_SRC = $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC = $(wildcard tests/bench/bench_*.c)
HELP_SRC = $(wildcard tests/unit/help_*.c)

obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_OBJ  = $(call obj,$(LIB_SRC))
BIN_OBJ  = $(call obj,$(BIN_SRC))
HELP_OBJ = $(call obj,$(HELP_SRC))
TESTS    = $(patsubst %.c,$(BUILD)/%,$(TEST_SRC))
FUZZERS  = $(patsubst %.c,$(BUILD)/%,$(FUZZ_SRC))
BENCHES  = $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))

.PHONY: all demo test unit blackbox soak bench asan tsan fuzz fuzzers format layers \
        install uninstall clean deps need
.SECONDARY:

all: need $(BUILD)/bin/weir $(BUILD)/lib/libweir.a $(BUILD)/lib/libweir.so

# --- building -----------------------------------------------------------------

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(LUA_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/lib/libweir.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/lib/libweir.so: $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libweir.so.$(SOVERSION) $(LDFLAGS) $^ $(LIBS) -o $@

$(BUILD)/bin/weir: $(BUILD)/lua/host.o $(BIN_OBJ) $(BUILD)/lib/libweir.a
	@mkdir -p $(@D) bin
	$(CC) $(LDFLAGS) $^ $(LIBS) $(LUA_LIBS) -o $@
	@if [ $(BUILD) = build/release ]; then ln -sf ../$@ bin/weir; fi

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(HELP_OBJ) $(BIN_OBJ) $(BUILD)/lib/libweir.a
	$(CC) $(LDFLAGS) $^ $(LIBS) $(LUA_LIBS) -lcmocka -o $@

$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BIN_OBJ) $(BUILD)/lib/libweir.a
	$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LIBS) $(LUA_LIBS) -o $@

$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BIN_OBJ) $(BUILD)/lib/libweir.a
	$(CC) $(LDFLAGS) $^ $(LIBS) $(LUA_LIBS) -o $@

-include $(shell find build -name '*.d' 2>/dev/null)

# --- what must be there -------------------------------------------------------

deps:
	@missing=""; for p in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' \
	  || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	  $$sudo apt-get install -y -q --no-install-recommends $$missing; fi

need:
	@command -v $(CC) >/dev/null && command -v pkg-config >/dev/null \
	 && pkg-config --exists libczmq libzmq lua5.4 libpcre2-8 libxxhash \
	 || { echo "Weir needs libraries that are not installed: run 'make deps'" >&2; exit 1; }

# --- proving ------------------------------------------------------------------

unit: need $(TESTS)
	@for t in $(TESTS); do echo "== $$t"; $$t || exit 1; done

fuzz:
	$(MAKE) MODE=fuzz CC=clang fuzzers
	@for f in $(patsubst %.c,build/fuzz-clang/%,$(FUZZ_SRC)); do \
	  echo "== $$f"; mkdir -p build/corpus/$$(basename $$f); \
	  $$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=0 \
	    build/corpus/$$(basename $$f) || exit 1; done

fuzzers: need $(FUZZERS)

clean:
	rm -rf build bin
