"""The rounds of test_bus_crash.py by the hundred: SOAK_ROUNDS (200); SEED=n repeats them."""
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "bus_crash")
from bus_crash import round_of_kills  # noqa: E402
from helper import chance  # noqa: E402

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "200"))


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
