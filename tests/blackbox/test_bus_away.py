"""A store that is away for two seconds; `make soak` has a minute."""
from bus_away import MB, store_away
from helper import chance


def test_all_records_arrive_when_the_disk_was_full_for_a_while(bench, small_disk):
    most = store_away(bench, small_disk, chance("away"), 2)
    print("%.1f MB resident" % (most / MB))
