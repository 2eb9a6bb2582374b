"""The rounds of test_crash.py by the hundred.

    soak_crash.py [ROUNDS]      200 unless said; SEED=n repeats a run
"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "blackbox"))
from crash import round_of_kills  # noqa: E402
from helper import SEED, chance  # noqa: E402


def main():
    """Runs the rounds; an assertion ends the program and names the seed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    luck, total, allowed, kills = chance("soak"), 0, 0, 0
    for number in range(rounds):
        seed = luck.random()
        with tempfile.TemporaryDirectory(prefix="weir-soak-") as folder:
            try:
                twice, unacknowledged, killed = round_of_kills(folder, seed)
            except AssertionError:
                print("round %d failed: SEED=%d, seed %r" % (number, SEED, seed))
                raise
        total, allowed, kills = total + twice, allowed + unacknowledged, kills + killed
        if number % 20 == 19 or number + 1 == rounds:
            print("%d rounds, %d kills: nothing lost or altered; %d records came twice, "
                  "%d could have" % (number + 1, kills, total, allowed), flush=True)


if __name__ == "__main__":
    main()
