"""The rounds of test_crash.py by the hundred: SOAK_ROUNDS (200); SEED=n repeats them."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash")
from crash import round_of_kills  # noqa: E402
from helper import chance  # noqa: E402

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "200"))


def test_no_kill_loses_or_alters_a_record(tmp_path, capsys):
    """Each round in a folder of its own; the folder of one that fails stays."""
    luck, total, allowed, kills = chance("soak"), 0, 0, 0
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        print("round %d in %s" % (number, folder))
        twice, unacknowledged, killed = round_of_kills(folder, luck.random())
        total, allowed, kills = total + twice, allowed + unacknowledged, kills + killed
        os.system("rm -r %s" % folder)
        if number % 20 == 19 or number + 1 == ROUNDS:
            with capsys.disabled():
                print("%d rounds, %d kills: nothing lost or altered; %d records came twice,"
                      " %d could have" % (number + 1, kills, total, allowed), flush=True)
