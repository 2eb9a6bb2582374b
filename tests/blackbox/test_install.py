"""What `make install` puts in place is whole, and serves C programs."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EMBED = pathlib.Path(__file__).with_name("embed.c")

pytestmark = pytest.mark.skipif(bool(os.environ.get("SANITIZED")),
                                reason="what is installed is the release build")


def say(*command, env=None):
    """What a command prints; it must succeed."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True,
                          text=True, check=False, timeout=300, env=env)
    assert done.returncode == 0, "%s\n%s%s" % (command, done.stdout, done.stderr)
    return done.stdout


def plain():
    """The environment without what an outer make has put there."""
    return {name: value for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MODE")}


@pytest.fixture(name="prefix", scope="module")
def installed(tmp_path_factory):
    """The prefix of an installation in a folder of its own."""
    folder = tmp_path_factory.mktemp("dest")
    say("make", "-s", "install", "DESTDIR=%s" % folder, "PREFIX=/usr", env=plain())
    config = folder / "usr" / "lib" / "pkgconfig" / "weir.pc"
    text = config.read_text(encoding="ascii")
    assert text.startswith("prefix=/usr\n")
    config.write_text(text.replace("prefix=/usr", "prefix=%s/usr" % folder, 1),
                      encoding="ascii")
    return folder / "usr"


def flags(prefix, *what):
    """What pkg-config says of the installation."""
    env = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    return say("pkg-config", *what, "weir", env=env).split()


def test_each_page_that_the_installed_readme_names_is_there(prefix):
    folder = prefix / "share" / "doc" / "weir"
    pages = re.findall(r"\]\(([\w/-]+\.md)\)", (folder / "README.md").read_text())
    assert len(pages) > 10
    for page in pages:
        assert (folder / page).is_file(), page


def test_installed_binary_runs(prefix):
    assert say(prefix / "bin" / "weir", "version").startswith("weir ")


def test_library_needs_neither_lua_nor_cxx_and_bears_its_soname(prefix):
    told = say("readelf", "-d", prefix / "lib" / "libweir.so")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", told)
    assert "libczmq.so.4" in needed
    assert not [name for name in needed if "lua" in name or "stdc++" in name]
    assert re.search(r"\(SONAME\).*\[libweir\.so\.0\]", told)
    assert (prefix / "lib" / "libweir.so").resolve().name == "libweir.so.0"


def test_library_lacks_no_symbol_of_lua(prefix):
    for name in ("libweir.so", "libweir.a"):
        told = say("nm", "-u", prefix / "lib" / name)
        assert not re.findall(r"U (?:lua|luaL)_\w+", told)


@pytest.mark.parametrize("linking", ["shared", "static"])
def test_host_program_builds_by_pkg_config_and_runs(prefix, tmp_path, linking):
    program = tmp_path / "embed"
    libraries = flags(prefix, "--libs")
    if linking == "static":  # of Weir alone: Debian's `--static` of libzmq does not link
        libraries = [prefix / "lib" / "libweir.a" if flag == "-lweir" else flag
                     for flag in libraries]
        libraries += ["-lsodium", "-lpcre2-8", "-lxxhash", "-lmicrohttpd", "-llmdb",
                      "-lhiredis", "-lnats", "-lm", "-pthread"]
    say("gcc", "-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Werror", EMBED, "-o", program,
        *flags(prefix, "--cflags"), *libraries)
    env = {**os.environ, "LD_LIBRARY_PATH": str(prefix / "lib")}
    assert say(program, env=env) == "ok: 100000 sent, 100000 taken\n"


STRICT = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Werror",
          "-fsyntax-only"]


def test_each_public_header_stands_alone(prefix, tmp_path):
    root = prefix / "include" / "weir"
    headers = [path.relative_to(root) for path in root.rglob("*.h")]
    assert len(headers) > 20
    for header in headers:
        source = tmp_path / "one.c"
        source.write_text('#include "%s"\nint main(void) { return 0; }\n' % header,
                          encoding="utf-8")
        say("gcc", *STRICT, source, *flags(prefix, "--cflags"))


def actors_of_the_reference():
    """The names of all sources and sinks, source.file and so on."""
    return re.findall(r"^### ((?:source|sink)\.\w+)$", (ROOT / "docs/reference.md").read_text(),
                      re.MULTILINE)


def test_each_source_and_sink_of_the_reference_is_there_for_c_programs(prefix, tmp_path):
    names = [name.replace(".", "_") for name in actors_of_the_reference()]
    assert "source_redis" in names and "sink_jetstream" in names
    rows = ["{weir_%s, weir_%s_defaults.node.name}," % (name, name) for name in names]
    source = tmp_path / "all.c"
    source.write_text("%s\nint main(void) {\nstruct {zactor_fn *actor; const char *name;} all[]"
                      " = {\n%s\n};\nreturn all[0].actor == NULL; }\n" %
                      ("\n".join('#include "actors/%s.h"' % name for name in names),
                       "\n".join(rows)), encoding="utf-8")
    say("gcc", "-Wall", "-Wextra", "-Werror", source, "-o", tmp_path / "all",
        *flags(prefix, "--cflags", "--libs"))


def test_facade_may_be_included_from_cxx(prefix, tmp_path):
    source = tmp_path / "host.cc"
    source.write_text('#include "actors/bus.h"\n#include <string>\nint main() {'
                      ' return weir_bus_destroy(nullptr, 0) != 0; }\n', encoding="utf-8")
    if not shutil.which("g++"):
        pytest.skip("there is no C++ compiler")
    say("g++", "-Wall", "-Wextra", "-Werror", source, *flags(prefix, "--cflags", "--libs"),
        "-o", tmp_path / "host")


def test_library_shows_only_its_own_names_with_their_version(prefix):
    told = say("nm", "-D", "--defined-only", prefix / "lib" / "libweir.so")
    names = [line.split()[-1] for line in told.splitlines()]
    assert "weir_bus_append@@WEIR_0" in names and "weir_bus_defaults@@WEIR_0" in names
    assert not [name for name in names if not name.startswith("weir_") and name != "WEIR_0"]


def test_example_builds_against_the_installation(prefix, tmp_path):
    env = {**plain(), "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    program = tmp_path / "embed-c"
    say("make", "-s", "-C", "examples/embed-c", "OUT=%s" % program, "ROOT=/nowhere", env=env)
    told = say("readelf", "-d", program)
    assert "libweir.so.0" in told


def test_uninstall_leaves_nothing_behind(tmp_path):
    for target in ("install", "uninstall"):
        say("make", "-s", target, "DESTDIR=%s" % tmp_path, "PREFIX=/usr", env=plain())
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
