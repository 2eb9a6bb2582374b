"""The ports of tests: nobody else has them, be it another process or the kernel."""
import subprocess
import sys

import helper
import ports

SHOW = "import ports; print(ports.free_port(), flush=True); input()"


def test_processes_have_ports_apart_until_they_end():
    children = [subprocess.Popen([sys.executable, "-c", SHOW], cwd=helper.HERE, text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for _ in range(3)]
    found = [int(child.stdout.readline()) for child in children] + [ports.free_port()]
    for child in children:
        child.communicate("\n", helper.PATIENCE)
    assert len({port // ports.SIZE for port in found}) == 4
    assert all(ports.FIRST < port < ports.END for port in found)


def test_a_port_in_use_is_left_out_and_a_free_one_comes_late_again():
    taken = ports.bound(ports.free_port())
    with taken:
        mine = taken.getsockname()[1]
        found = [ports.free_port() for _ in range(ports.SIZE // 2)]
    assert len(set(found)) == len(found) and mine not in found


def test_the_kernel_gives_none_of_them():
    low = int(ports.GIVEN.read_text(encoding="ascii").split()[0])
    assert ports.FIRST < ports.free_port() < low
