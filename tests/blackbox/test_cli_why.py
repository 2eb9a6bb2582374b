"""weir why in staged situations: the sentence names the culprit, and the exit code tells
whether all flows."""
import json
import os
import re
import signal

import zmq

from helper import WEIR, Live, count_rows, wait_for
from ports import free_port
from test_cli_control import ctl, end, launch

FAST = "supervise { drain = \"100ms\" }\n"


def why(bench, pattern, code, *target, verdict=None):
    """Asks until the sentence matches; the answer as JSON."""
    def ask():
        run = bench.weir("why", *target)
        said[:] = [run.code, run.out + run.err]
        return re.search(pattern, run.out) and run.code == code
    said = []
    try:
        wait_for(ask, "%r with code %d" % (pattern, code), 20)
    except AssertionError:
        raise AssertionError("wanted %r (%d), was told %r" % (pattern, code, said)) \
            from None
    body = json.loads(bench.weir("why", "--json", *target).out)
    if verdict:
        assert verdict in [path["verdict"] for path in body["paths"]], body
    return body


def kill(*lives):
    """What cannot end cleanly need not."""
    for live in lives:
        live.kill()


def test_everything_flows(bench):
    bench.write("in", [{"n": 1}])
    live = launch(bench, "t", 'source.file "in" { path = "in" }\n'
                  'sink.file "out" { from = "in", path = "out" }')
    why(bench, "^in -> out: nothing to do: in has nothing to read$", 0,
        verdict="idle")
    end(live)
    live = launch(bench, "t", 'source.generate "gen" { count = forever }\n'
                  'sink.null "out" { from = "gen" }')
    why(bench, "^gen -> out: it flows$", 0, verdict="flows")
    end(live)


def test_paused(bench):
    live = launch(bench, "t", 'source.generate "gen" { count = forever }\n'
                  'sink.null "out" { from = "gen" }')
    ctl(bench, "ctl", "pause", "out")
    body = why(bench, "^gen -> out: out is paused by a command, for ", 1, verdict="held")
    assert body["paths"][0]["node"] == "out"
    ctl(bench, "ctl", "resume", "out")
    why(bench, "it flows", 0, "t/out")
    end(live)


def test_rate_limit(bench):
    live = launch(bench, "t", 'source.generate "gen" { count = forever, '
                  'rate = { records = 10 } }\nsink.null "out" { from = "gen" }')
    why(bench, "^gen -> out: gen keeps to its own rate limit", 1, verdict="held")
    end(live)


def test_a_fifo_that_nobody_reads(bench):
    """sink.stdout into a pipe whose reader does not read."""
    read, write = os.pipe()
    bench.write("t.lua", 'source.generate "gen" { count = forever }\n'
                'sink.stdout "out" { from = "gen" }')
    live = Live(bench, [WEIR, "run", "t.lua"], out=write)
    os.close(write)
    why(bench, "^gen -> out: out is in a call that does not return: what it writes to or "
        "reads from does not answer", 1, verdict="held")
    kill(live)
    os.close(read)


def test_full_file_system(bench, small_disk):
    live = launch(bench, "t", FAST + 'source.generate "gen" { count = forever }\n'
                  'sink.file "out" { from = "gen", path = "%s/out" }' % small_disk)
    why(bench, "^gen -> out: out .*No space left on device.*, for ", 1, verdict="held")
    kill(live)


def test_nobody_listens(bench):
    live = launch(bench, "t", FAST + 'source.generate "gen" { count = forever }\n'
                  'sink.link "out" { from = "gen", connect = "ipc://%s" }'
                  % bench.path("nobody"))
    why(bench, "out has no link to ipc://.*nobody: nobody answers there, for ", 1,
        verdict="held")
    kill(live)


def sender(bench, port, more="plaintext = true"):
    """A weir that sends to a port."""
    return launch(bench, "t", FAST + 'source.generate "gen" { count = forever }\n'
                  'sink.link "out" { from = "gen", connect = "tcp://127.0.0.1:%d", %s }'
                  % (port, more))


def receiver(bench, port, more="plaintext = true"):
    """A weir that takes what comes to it."""
    return launch(bench, "hub", 'source.link "in" { listen = "tcp://127.0.0.1:%d", %s }\n'
                  'sink.null "null" { from = "in" }' % (port, more))


def test_the_other_side_is_stopped(bench):
    port = free_port()
    hub = receiver(bench, port)
    live = sender(bench, port)
    why(bench, "gen -> out: it flows", 0, "t")
    hub.signal(signal.SIGSTOP)
    why(bench, "gen -> out: out (waits for|has no link to) tcp://127.0.0.1:%d" % port, 1,
        "t", verdict="held")
    hub.signal(signal.SIGCONT)
    why(bench, "gen -> out: it flows", 0, "t")
    kill(live, hub)


def test_the_other_side_is_paused(bench):
    port = free_port()
    hub = receiver(bench, port)
    live = sender(bench, port)
    ctl(bench, "ctl", "pause", "hub/in")
    why(bench, "out waits for tcp://127.0.0.1:%d, which (grants no more credit|has not made "
        "safe)" % port, 1, "t", verdict="held")
    kill(live, hub)


def test_refused_for_the_key(bench):
    port = free_port()
    for name in ("hub", "leaf"):
        ctl(bench, "keys", "init", name, "--keys", "k-" + name)
    ctl(bench, "keys", "allow", "k-hub/self.pub", "--keys", "k-leaf", "--role", "none")
    hub = launch(bench, "hub", 'security { keys = "k-hub" }\n'
                 'source.link "in" { listen = "tcp://127.0.0.1:%d" }\n'
                 'sink.null "null" { from = "in" }' % port)
    live = launch(bench, "t", FAST + 'security { keys = "k-leaf" }\n'
                  'source.generate "gen" { count = forever }\n'
                  'sink.link "out" { from = "gen", connect = "tcp://127.0.0.1:%d", '
                  'server = "hub" }' % port)
    why(bench, "out has no link to tcp://127.0.0.1:%d: .*(refuse|key)" % port, 1, "t",
        verdict="held")
    kill(live, hub)


def inlet(bench, answer):
    """A pyzmq ROUTER that answers the first HELLO, and the weir that sends to it."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")
    live = sender(bench, port)
    assert router.poll(20000)
    identity, _ = router.recv_multipart()
    router.send_multipart([identity, answer])
    return live, router, context, port


def test_credit_is_never_granted(bench):
    """WELCOME with no credit: version 1, nothing known of the session."""
    live, router, context, port = inlet(bench, bytes([0x96, 2, 1, 0, 0, 0, 0]))
    why(bench, "out waits for tcp://127.0.0.1:%d, which grants no more credit, for " % port,
        1, "t", verdict="held")
    kill(live)
    router.close()
    context.term()


def test_refused_for_the_version(bench):
    """CLOSE: code, text, retryable."""
    close = b"\x95\x07\xa7VERSION\xb7this node speaks 9 only\xc2\x00"
    live, router, context, port = inlet(bench, close)
    why(bench, "out has no link to tcp://127.0.0.1:%d: .*VERSION" % port, 1, "t",
        verdict="held")
    kill(live)
    router.close()
    context.term()


def test_restart_with_backoff(bench):
    bench.write("in", [{"n": n} for n in range(3)])
    live = launch(bench, "t", 'supervise { intensity = 100 }\n'
                  'source.file "in" { path = "in" }\n'
                  'process "p" { from = "in", on_error = stop, '
                  'each = function (r) error "kaputt" end }\n'
                  'sink.null "out" { from = "p" }')
    why(bench, "in -> p -> out: it stopped .* ago and starts again in .*kaputt", 1,
        verdict="failed")
    kill(live)


def test_a_slow_process_is_named_and_not_its_source(bench):
    live = launch(bench, "t", 'settings { window = "64KB" }\n'
                  'source.generate "gen" { count = forever }\n'
                  'process "slow" { from = "gen", each = function (r)\n'
                  'for i = 1, 3000000 do end return r end }\n'
                  'sink.null "out" { from = "slow" }')
    body = why(bench, "gen -> slow -> out: slow is slower than what comes: gen waits for",
               1, verdict="held")
    assert body["paths"][0]["node"] == "slow"
    kill(live)


def test_one_of_two_paths_is_held(bench):
    live = launch(bench, "t", FAST + 'source.generate "a" { count = forever, '
                  'rate = { records = 5 } }\n'
                  'source.generate "b" { count = 3 }\nsink.file "x" { from = "b", '
                  'path = "x" }\nsink.null "y" { from = "a" }')
    wait_for(lambda: count_rows(bench.path("x")) == 3, "the records")
    why(bench, "a -> y: a keeps to its own rate limit(.|\n)*"
        "b -> x: b has ended, and all of it is safe", 1)
    assert "a ->" not in ctl(bench, "why", "x").out
    kill(live)
