"""The final report belongs to the last run, and to no other."""
import helper

FOLLOW = """
source.file "in" { path = "in.ndjson" }
sink.file "out" { from = "in", path = "out.ndjson" }
"""


def test_a_killed_run_leaves_no_report_of_an_earlier_one(bench):
    bench.write("in.ndjson", [{"n": 1}])
    bench.run(FOLLOW, "--until-idle")
    assert bench.weir("audit", "t.lua").code == 0
    live = helper.Live(bench, [helper.WEIR, "run", "t.lua"])
    live.wait_ready()
    live.kill()
    told = bench.weir("audit", "t.lua")
    assert told.code == 2 and "no report of a run that has ended" in told.err, told.err


def test_a_refused_run_leaves_the_running_one_alone(bench):
    bench.write("in.ndjson", [{"n": 1}])
    live = bench.start(FOLLOW)
    live.wait_ready()
    second = bench.weir("run", "t.lua")
    assert second.code == 1 and "another weir runs with this state folder" in second.err
    assert not (bench.state / "report.json").exists()
    assert live.stop().node("in")["in"] == 1


STOPS = """
%s
process "p" { from = "in", on_error = stop, each = function (r) error "no" end }
sink.null "out" { from = "p" }
supervise { intensity = 0 }
"""


def test_a_failed_run_tells_whether_its_records_come_again(bench):
    bench.write("in.ndjson", [{"n": 1}])
    again = bench.run(STOPS % 'source.file "in" { path = "in.ndjson" }', code=1)
    assert "1 record was read and not safe; what is not safe is read again" in again.err
    once = bench.run(STOPS % 'source.stdin "in" {}', stdin=b'{"n":1}\n', code=1)
    assert "what came by a pipe cannot be read again" in once.err


def test_a_file_with_params_is_audited_with_them(bench):
    bench.write("in.ndjson", [{"n": 1}])
    bench.write("p.lua", 'settings { name = "p" .. param "n" }\n'
                'source.file "in" { path = "in.ndjson", at_end = stop }\n'
                'sink.null "out" { from = "in" }\n')
    assert bench.weir("run", "--set", "n=1", "p.lua").code == 0
    assert bench.weir("audit", "p.lua").code == 2
    told = bench.weir("audit", "--set", "n=1", "p.lua")
    assert told.code == 0 and "the sums are zero" in told.out, told.err
    told = bench.weir("pos", "ls", "--set", "n=1", "p.lua")
    assert told.code == 0 and "9 of 9" in told.out, told.out + told.err
    assert bench.weir("pos", "set", "--set", "n=1", "p.lua", "in.ndjson", "start").code == 0
    assert "0 of 9" in bench.weir("pos", "ls", "--set", "n=1", "p.lua").out
