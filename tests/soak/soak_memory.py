"""Memory stays flat: a topology that works for SOAK_SECONDS (600) must not grow.

The resident set is sampled once a second; the curve goes to build/soak/memory.json. After
a first tenth for warming up, the greatest sample of the last tenth may be at most 10 % and
1 MB above the greatest of the tenth before it.
"""
import json
import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEIR = os.environ.get("WEIR", str(ROOT / "bin/weir"))
SECONDS = int(os.environ.get("SOAK_SECONDS", "600"))

TOPOLOGY = """
settings { name = "memory" }
source.generate "in" { rate = { records = 50000 } }
process "p" {
  from = "in", workers = 2, key = "ip",
  each = function (r)
    if r.path == "/healthz" then return drop end
    r.tags = array { r.method, tostring (r.status) }
    r.agent = r.agent:upper ()
    return r
  end,
  outlets = { errors = "status >= 500", rest = otherwise },
}
sink.file "errors" { from = "p.errors", path = "%s/errors.ndjson", fsync = "1s" }
sink.null "rest" { from = "p.rest" }
"""


def resident_mb(pid):
    status = pathlib.Path("/proc/%d/status" % pid).read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_memory_stays_flat(tmp_path):
    path = tmp_path / "topology.lua"
    path.write_text(TOPOLOGY % tmp_path)
    weir = subprocess.Popen([WEIR, "run", "--quiet", str(path)], stderr=subprocess.DEVNULL)
    curve = []
    try:
        for second in range(SECONDS):
            time.sleep(1)  # the sampling interval
            assert weir.poll() is None
            curve.append(round(resident_mb(weir.pid), 2))
    finally:
        weir.terminate()
        code = weir.wait(60)
    out = ROOT / "build/soak"
    out.mkdir(parents=True, exist_ok=True)
    (out / "memory.json").write_text(json.dumps(curve))
    print("MB every tenth:", [curve[i * len(curve) // 10] for i in range(10)], curve[-1])
    assert code == 0
    tenth = len(curve) // 10
    assert max(curve[-tenth:]) <= max(curve[tenth:2 * tenth]) * 1.1 + 1, curve
