"""The rounds of test_servers_crash.py by the hundred: SOAK_ROUNDS (100) for each server.
SEED=n repeats them."""
import collections
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "bus_crash", "servers", "stores",
                               "servers_crash")
from helper import chance  # noqa: E402
from servers_crash import round_of_failures, told  # noqa: E402

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "100"))


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_no_failure_loses_a_record_or_uses_an_id_twice(tmp_path, capsys, kind):
    """Each round in a folder of its own; the folder of one that fails stays."""
    luck, sums = chance("soak of servers, " + kind), collections.Counter()
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        seed = luck.random()
        print("round %d in %s, seed %r" % (number, folder, seed))
        sums.update(round_of_failures(folder, kind, seed))
        shutil.rmtree(folder)
        if number % 20 == 19 or number + 1 == ROUNDS:
            with capsys.disabled():
                print("%s, %d rounds: %s" % (kind, number + 1, told(sums)), flush=True)
