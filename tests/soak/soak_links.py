"""The rounds of test_links_crash.py by the hundred: SOAK_ROUNDS (200) of kills and stops,
SOAK_CUTS (100) of connections, SOAK_ROUNDS / 10 of chains; SEED=n repeats them."""
import os
import pathlib
import shutil
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "links", "link_rounds", "link_speed",
                               "link_many")
from helper import chance  # noqa: E402
from link_many import chain_of_kills, fan_in_of_kills  # noqa: E402
from link_rounds import cuts_under_load, round_of_kills  # noqa: E402
from link_speed import return_of_a_receiver  # noqa: E402

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


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
@pytest.mark.parametrize("away", [1, 35])
def test_full_speed_within_a_second(tmp_path, capsys, how, away):
    """Also when the receiver was away for so long that the backoff is at its ceiling."""
    before, full, first = return_of_a_receiver(tmp_path, how, away)
    with capsys.disabled():
        print("%s, away for %d s: %.1f MB/s again %.2f s behind `ready` (first byte: %.2f s)"
              % (how.name, away, before, full, first))
    assert full < 5


def test_a_chain_acknowledges_from_end_to_end(tmp_path, capsys):
    """Its middle is killed and wiped; nothing that was committed is missing at the end."""
    luck, total, kills = chance("soak chain"), 0, 0
    for number in range(max(1, ROUNDS // 10)):
        folder = tmp_path / str(number)
        folder.mkdir()
        chain, twice = chain_of_kills(folder, luck.random(), 8)
        total, kills = total + twice, kills + chain.kills
        shutil.rmtree(folder)
    with capsys.disabled():
        print("%d chains, %d kills: nothing lost; %d records came twice"
              % (number + 1, kills, total))


def test_many_senders_lose_nothing(tmp_path, capsys):
    """Twenty senders and a receiver, killed for half a minute."""
    fan, twice = fan_in_of_kills(tmp_path, chance("soak fan-in"), 30000, 60)
    with capsys.disabled():
        print("%d kills: nothing lost; %d records came twice; the receiver held %.1f MB"
              % (fan.kills, twice, fan.most / (1 << 20)))
