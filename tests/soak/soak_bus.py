"""The rounds of test_bus_crash.py by the hundred: SOAK_ROUNDS (200); and stores that are
away for SOAK_AWAY (60) seconds. SEED=n repeats them."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "bus_away", "bus_crash")
from bus_away import MB, store_away  # noqa: E402
from bus_crash import round_of_kills  # noqa: E402
from helper import ROOT, Bench, chance, small_disk  # noqa: E402

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "200"))
AWAY = int(os.environ.get("SOAK_AWAY", "60"))
FAILING = str(ROOT / "build/release/tests/unit/test_bus_failing")


def test_no_kill_loses_a_record_of_a_durable_bus_or_uses_an_id_twice(tmp_path, capsys):
    """Each round in a folder of its own; the folder of one that fails stays."""
    luck, sums = chance("soak of the bus"), [0, 0, 0, 0]
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        print("round %d in %s" % (number, folder))
        sums = [a + b for a, b in zip(sums, round_of_kills(folder, luck.random()))]
        shutil.rmtree(folder)
        if number % 20 == 19 or number + 1 == ROUNDS:
            with capsys.disabled():
                print("%d rounds, %d kills: nothing lost, no id used twice; %d of %d "
                      "unacknowledged records stored twice, %d written twice"
                      % (number + 1, sums[3], sums[0], sums[1], sums[2]), flush=True)


def test_all_records_arrive_when_the_disk_was_full_for_a_minute(tmp_path, capsys):
    """A file into a bus on a disk that is full."""
    bench = Bench(tmp_path)
    with small_disk(bench) as disk:
        if not disk:
            pytest.skip("a small file system needs the right to mount")
        most = store_away(bench, disk, chance("soak away"), AWAY)
    with capsys.disabled():
        print("full for %d s: nothing lost, doubled or out of order; %.1f MB resident"
              % (AWAY, most / MB))


def test_all_records_arrive_when_a_store_was_away_for_a_minute():
    """In one process, from a thread, with errors and without answers."""
    subprocess.run([FAILING], check=True, env={**os.environ, "AWAY_MS": str(1000 * AWAY)})
