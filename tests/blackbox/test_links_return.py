"""A receiver that returns is served at full speed within a second; the test leaves more
time, for a machine that does other things, and prints the figure."""
import signal

import pytest
from link_speed import return_of_a_receiver

GENEROUS = 5  # seconds


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_full_speed_soon_behind_a_return(tmp_path, how):
    before, full, first = return_of_a_receiver(tmp_path, how, 2)
    print("%.1f MB/s again %.2f s behind `ready` (the first byte: %.2f s)"
          % (before, full, first))
    assert full < GENEROUS
