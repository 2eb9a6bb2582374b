"""The rounds of test_links_crash.py by the hundred: SOAK_ROUNDS (200) of kills and stops,
SOAK_CUTS (100) of connections; SEED=n repeats them."""
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "links", "link_rounds")
from helper import chance  # noqa: E402
from link_rounds import cuts_under_load, round_of_kills  # noqa: E402

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "200"))
CUTS = int(os.environ.get("SOAK_CUTS", "100"))


def test_no_kill_and_no_stop_loses_or_alters_a_record(tmp_path, capsys):
    """Each round in a folder of its own; the folder of one that fails stays."""
    luck, total, could, kills, stops, long = chance("soak links"), 0, 0, 0, 0, 0
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        print("round %d in %s" % (number, folder))
        pair, twice = round_of_kills(folder, luck.random())
        total, could = total + twice, could + pair.unacknowledged()
        kills, stops, long = kills + pair.kills, stops + pair.stops, long + pair.long_stops
        shutil.rmtree(folder)
        if number % 20 == 19 or number + 1 == ROUNDS:
            with capsys.disabled():
                print("%d rounds, %d kills, %d stops (%d longer than the heartbeat): nothing"
                      " lost or altered; %d records came twice, %d could have"
                      % (number + 1, kills, stops, long, total, could), flush=True)


def test_no_cut_loses_or_doubles_a_record(tmp_path, capsys):
    """All cuts of one link, one behind the other."""
    wire, sent, took = cuts_under_load(tmp_path, chance("soak cuts"), CUTS)
    with capsys.disabled():
        print("cuts %s in %.1f s, %d connections: nothing lost, doubled or out of order; "
              "%d blocks were sent again"
              % (wire.cuts, took, wire.connections, sent.node("up")["replayed"]))
