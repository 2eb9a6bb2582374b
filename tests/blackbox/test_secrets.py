"""`secret "name"`: where it is read, what is refused, and that it is told nowhere."""
import json
import os
import re
import time
import urllib.error
import urllib.request

import pytest

import helper
import servers

PW = "p@ss/w:rd#1-äöü"
READS = 'source.generate "g" { count = 1 }\nlocal s = %s\nsink.null "n" { from = "g" }\n'


def put(bench, name, content, folder="weir-secrets", mode=0o600):
    """A secret's file."""
    path = bench.write("%s/%s" % (folder, name), content)
    path.chmod(mode)
    return path


def value_of(bench, expression, **more):
    """What the expression is in a worker and, for the plan, as a file's name."""
    run = bench.run('source.generate "g" { count = 1 }\nlocal s = %s\n'
                    'process "p" { from = "g", each = function (r) return { s = s } end }\n'
                    'sink.file "out" { from = "p", path = "out.ndjson" }\n' % expression,
                    **more)
    assert "error" not in run.err
    return helper.objects(bench.path("out.ndjson"))[-1]["s"]


def test_one_newline_at_the_end_goes(bench):
    for content, value in ((PW, PW), (PW + "\n", PW), (PW + "\n\n", PW + "\n"),
                           ("two\nlines\n", "two\nlines")):
        put(bench, "pw", content)
        assert value_of(bench, 'secret "pw"') == value


def test_workers_have_what_the_plan_read(bench):
    put(bench, "pw", PW)
    put(bench, "unused", "12345")
    live = bench.start('local s = "<" .. secret "pw" .. ">"\n'
                       'source.file "in" { path = "in.ndjson" }\n'
                       'process "p" { from = "in", workers = 2, on_error = stop,\n'
                       '  each = function (r)\n'
                       '    if r.n == 1 and time.now () < r.until_ms then error "again" end\n'
                       '    return { n = r.n, s = s } end }\n'
                       'sink.file "out" { from = "p", path = "out.ndjson" }\n')
    live.wait_ready()
    bench.path("weir-secrets/pw").unlink()  # a path that starts again reads no file
    bench.write("in.ndjson", [{"n": 0, "until_ms": 0},
                              {"n": 1, "until_ms": int(time.time() * 1000) + 300}])
    helper.wait_for(lambda: helper.count_rows(bench.path("out.ndjson")) == 2, "both rows")
    assert live.stop().report["restarts"] > 0
    rows = helper.objects(bench.path("out.ndjson"))
    assert {row["s"] for row in rows} == {"<%s>" % PW}


def test_a_process_function_has_none(bench):
    put(bench, "pw", PW)
    run = bench.run('source.generate "g" { count = 1 }\n'
                    'process "p" { from = "g", each = function (r)\n'
                    '  return { s = secret "pw" } end }\n'
                    'sink.null "n" { from = "p" }\n', code=3)
    assert "dead letter" in run.err
    assert "secret works at the top level of the file: keep its value in a local" in \
        bench.dead()[0]["error"]


def test_the_folders_in_their_order(bench):
    for folder in ("weir-secrets", "credentials", "named"):
        put(bench, "pw", "from " + folder, folder)
    env = {"CREDENTIALS_DIRECTORY": str(bench.path("credentials"))}
    assert value_of(bench, 'secret "pw"') == "from weir-secrets"
    assert value_of(bench, 'secret "pw"', env={"CREDENTIALS_DIRECTORY": ""}) == \
        "from weir-secrets"
    assert value_of(bench, 'secret "pw"', env=env) == "from credentials"
    named = 'nil\nsecurity { secrets = "named" }\ns = secret "pw"'
    assert value_of(bench, named, env=env) == "from named"


def test_the_folder_is_beside_the_topology(bench):
    put(bench, "pw", PW, "there/weir-secrets")
    bench.write("there/t.lua", READS % 'secret "pw"')
    assert bench.weir("check", "there/t.lua").code == 0


@pytest.mark.parametrize("name, words", [
    ("a/b", "no slash"), ("..", "not . or .."), (".", "not . or .."), ("", "not empty"),
    ("../weir-secrets/pw", "no slash"),
])
def test_a_name_is_that_of_a_file(bench, name, words):
    put(bench, "pw", PW)
    lines = bench.refused(READS % 'secret "%s"' % name)
    assert len(lines) == 1 and lines[0].startswith('t.lua:2: secret "%s": ' % name)
    assert words in lines[0]


def told(bench):
    """The one complaint about the secret `pw`."""
    lines = bench.refused(READS % 'secret "pw"')
    assert len(lines) == 1 and lines[0].startswith('t.lua:2: secret "pw": '), lines
    return lines[0]


def test_a_missing_file_is_named(bench):
    assert told(bench).endswith("there is no file %s" % bench.path("weir-secrets/pw"))


def test_files_that_are_no_secret_are_refused(bench):
    path = str(bench.path("weir-secrets/pw"))
    for content, words in ((b"", path + " is empty"), (b"\n", path + " is empty"),
                           (b"abc\n", "fewer than 4 bytes"),
                           (b"ab\0cd", "holds a zero byte"),
                           (b"x" * 65537, path + " is larger than 64KB")):
        put(bench, "pw", content)
        assert words in told(bench)
    put(bench, "pw", b"x" * 65536)
    assert bench.check(READS % 'secret "pw"').code == 0
    os.remove(path)
    os.mkdir(path)
    assert path + " is no file" in told(bench)
    os.rmdir(path)
    os.mkfifo(path)
    assert path + " is no file" in told(bench)
    os.remove(path)
    os.symlink("pw", path)
    assert "cannot read %s: Too many levels of symbolic links" % path in told(bench)


@pytest.mark.parametrize("mode, good", [
    (0o600, True), (0o400, True), (0o640, True), (0o440, True),
    (0o644, False), (0o604, False), (0o602, False), (0o620, False), (0o601, False)])
def test_others_may_not_read_it(bench, mode, good):
    put(bench, "pw", PW, mode=mode)
    if good:
        assert bench.check(READS % 'secret "pw"').code == 0
    else:
        assert "others may read or change %s (mode %04o)" % (
            bench.path("weir-secrets/pw"), mode) in told(bench)


def test_a_folder_that_everybody_may_write_is_refused(bench):
    put(bench, "pw", PW)
    bench.path("weir-secrets").chmod(0o777)
    assert "everybody may write the folder %s" % bench.path("weir-secrets") in told(bench)


def test_all_mistakes_are_told_at_once(bench):
    put(bench, "pw", PW)
    lines = bench.refused('source.generate "g" { count = secret "pw" }\n'
                          'sink.file "f" { from = "g", path = secret "no" .. "/x",\n'
                          '  fsync = secret "pw", pth = 1 }\n'
                          'sink.link "l" { from = "g", server = "s",\n'
                          '  connect = "tcp://" .. url.encode (secret "no") }\n'
                          'security { secrets = "x" }\n')
    # The connection would want keys, too; what it connects to is not known.
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "3", "5", "6"], lines
    assert "option 'fsync': '***' is no time" in "".join(lines)
    assert "must stand above the first `secret`, which is in line 1" in lines[-1]


def test_names_hold_no_secret(bench):
    put(bench, "pw", "hunter22")
    lines = bench.refused('source.generate (secret "pw") { count = 1 }\n'
                          'settings { name = secret "pw", state = "x/" .. secret "pw" }\n'
                          'sink.null "n" { from = secret "pw" }\n')
    assert lines == ['t.lua:1: source.generate "***": a name may not hold a secret',
                     "t.lua:2: settings: option 'name': a name may not hold a secret",
                     "t.lua:2: settings: option 'state': a name may not hold a secret"]


def test_commands_that_want_the_state_do_without(bench):
    put(bench, "pw", PW)
    text = READS % 'secret "pw"' + 'sink.file "f" { from = "g", path = secret "pw" .. 1 }\n'
    bench.path("p@ss").mkdir()
    bench.run(text)
    bench.path("weir-secrets/pw").unlink()
    audit = bench.weir("audit", "t.lua")
    assert audit.code == 0 and "no file" not in audit.err, audit.err


def test_a_module_tells_its_own_line(bench):
    bench.write("m.lua", "local m = {}\nm.s = secret 'no'\nreturn m\n")
    lines = bench.refused(READS % 'require "m".s')
    assert len(lines) == 1 and re.search(r'm\.lua:2: secret "no": there is no file',
                                         lines[0]), lines


SERVERS = """
local pw = url.encode (secret "pw")
source.generate "g" { count = 10 }
bus "b" { from = "g",
  store = redis { url = "redis://:" .. pw .. "@127.0.0.1:%d", keep = all } }
bus "j" { from = "g",
  store = jetstream { url = "nats://weir:" .. pw .. "@127.0.0.1:%d", keep = all } }
sink.file "out" { from = { "b", "j" }, path = "out.ndjson" }
"""


def test_as_the_password_of_a_server(bench):
    secret = "p@ss/w:rd#1%40?&"
    put(bench, "pw", secret + "\n")
    users = [{"user": "weir", "password": secret}]
    with servers.Redis(bench.path("redis"), password=secret) as redis, \
            servers.Nats(bench.path("nats"), users=users) as nats:
        live = bench.start(SERVERS % (redis.port, nats.port))
        live.wait_ready()
        helper.wait_for(lambda: helper.count_rows(bench.path("out.ndjson")) == 20,
                        "all records twice")
        told = bench.weir("ctl", "stats", "t", "--json").out + bench.weir("why").out
        redis.call("CONFIG", "SET", "requirepass", "another")
        redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        live.wait_log("WRONGPASS|NOAUTH")
        told += live.text()
        live.kill()
    told += "".join(files_of(bench.path("run"), bench.state).values())
    assert "w:rd" not in told and "w%3Ard" not in told, told
    assert "nats://weir:***@" in told and "redis://:***@" in told


EVERYWHERE = """
local pw = secret "pw"
settings { log = { level = "debug"%s } }
monitor { listen = "127.0.0.1:0" }
source.file "in" { path = "in.ndjson" }
source.generate "g" { count = 1 }
process "q" { from = "g", each = function (r)
  weir.log ("warn", "worker " .. pw .. " " .. url.encode (pw))
  error ("bad " .. pw)
end }
sink.null "n" { from = "q" }
sink.link "away" { from = "in", connect = "ipc://" .. secret "plain" .. ".sock" }
"""


def everything_told(bench, live):
    """What commands, pages and files tell, by where."""
    told_by = {"log": live.text()}
    for words in (["why"], ["why", "--json"], ["top", "--once"], ["ctl", "list"],
                  ["ctl", "list", "t"], ["ctl", "list", "t", "--json"],
                  ["ctl", "stats", "t"], ["ctl", "stats", "t", "--json"],
                  ["audit", "t"], ["audit", "t", "--json"], ["pos", "ls", "t"]):
        run = bench.weir(*words)
        told_by[" ".join(words)] = run.out + run.err
    address = re.search(r"monitor listening at=(http://[0-9.:]+)", live.text()).group(1)
    for page in ("/metrics", "/health", "/"):
        try:
            with urllib.request.urlopen(address + page, timeout=helper.PATIENCE) as answer:
                told_by[page] = answer.read().decode()
        except urllib.error.HTTPError as error:
            told_by[page] = error.read().decode()
    return told_by


def files_of(*folders):
    """Their regular files' contents."""
    return {str(path): path.read_bytes().decode("utf-8", "replace")
            for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_a_failure_does_not_tell_it(bench):
    put(bench, "plain", "hunter22")
    run = bench.run('source.generate "g" { count = 1 }\n'
                    'sink.file "f" { from = "g", path = "no-" .. secret "plain" .. "/x" }\n'
                    'supervise { intensity = 1 }\n', code=1)
    assert "no-***/x" in run.err and "hunter22" not in run.err
    assert "hunter22" not in json.dumps(run.report)


@pytest.mark.parametrize("log", ["", ', format = json'])
def test_it_is_told_nowhere(bench, log):
    put(bench, "pw", PW)
    put(bench, "plain", "hunter22")
    text = EVERYWHERE % log
    bench.write("in.ndjson", [{"n": n} for n in range(3)])
    bench.topology(text)
    told_by = {}
    for words in (["check"], ["check", "--json"], ["graph"], ["graph", "--dot"]):
        run = bench.weir(*words, "t.lua")
        assert run.code == 0, run.err
        told_by[" ".join(words)] = run.out + run.err
    live = bench.start(text)
    helper.wait_for(lambda: "***.sock" in bench.weir("ctl", "stats", "t", "--json").out,
                    "the link waits")
    helper.wait_for(bench.dead, "a dead letter")
    told_by.update(everything_told(bench, live))
    live.kill()
    told_by.update(files_of(bench.path("run"), bench.state))
    places = [where for where, what in told_by.items() for word in
              ("hunter22", PW, "w:rd", "w%3Ard", json.dumps(PW)[1:-1]) if word in what]
    assert not places, "\n".join("%s: %s" % (p, told_by[p]) for p in places)
    assert "***" in told_by["log"] and "***" in told_by["why"]
