#!/bin/sh
# Proves runtime <- actors <- lua <- examples: every #include that points the wrong way
# is named as file:line, and the exit code is 1. Runs in the root of the tree.
#
#   runtime/  includes runtime/ and system headers, never Lua's
#   actors/   also actors/, but no actor another one: an actor is what catalog.c
#             includes; a worker is a part of the engine, and the facade for C
#             programs lies above the actors: it runs a bus
#   lua/      anything of runtime/, actors/, lua/
cd "$(dirname "$0")/.." || exit 2

actors=$(sed -n 's|^#include "\(actors/.*\)"|\1|p' actors/catalog.c | grep -v catalog.h)

find runtime actors lua -name '*.[ch]' | sort | xargs awk -v list="$(echo $actors)" '
    function complain(why) {
        printf "%s:%d: %s\n", FILENAME, FNR, why
        bad = 1
    }
    BEGIN {
        split(list, names, " ")
        for (i in names) is_actor[names[i]] = 1
    }
    !/^[ \t]*#[ \t]*include/ { next }
    {
        room = FILENAME
        sub(/\/.*/, "", room)
        own = FILENAME
        sub(/\.[ch]$/, ".h", own)
        system_header = match($0, /<[^>]*>/)
        if (!system_header && !match($0, /"[^"]*"/)) {
            complain("an include that names no file")
            next
        }
        name = substr($0, RSTART + 1, RLENGTH - 2)
        if (system_header) {
            if (room != "lua" && name ~ /^(lua|lauxlib|lualib|luaconf)/)
                complain(room " includes Lua: <" name ">")
            else if (name ~ /^(runtime|actors|lua|examples|tests)\//)
                complain("our own header as a system header: <" name ">")
            next
        }
        if (name ~ /^runtime\//) next
        if (room == "runtime") {
            complain("runtime includes \"" name "\"")
        } else if (name ~ /^actors\//) {
            if (room == "lua" || name == own || !(name in is_actor)) next
            if (FILENAME == "actors/catalog.c") next
            if (FILENAME == "actors/bus_local.c" && name == "actors/bus_node.h") next
            if (FILENAME ~ /^actors\/worker\./ && name == "actors/engine.h") next
            complain("an actor includes another: \"" name "\"")
        } else if (room != "lua" || name !~ /^lua\//) {
            complain(room " includes \"" name "\"")
        }
    }
    END { exit bad }
' || exit 1
