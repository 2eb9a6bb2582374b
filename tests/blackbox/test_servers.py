"""The servers that tests run for themselves: what servers.py promises."""
import os
import signal
import subprocess
import sys

import pytest

import helper
import servers


def test_redis_keeps_what_it_acknowledged_over_a_kill(bench):
    with servers.Redis(bench.path("redis"), appendonly=True) as redis:
        ids = redis.pipeline([("XADD", "s", "*", "n", n) for n in range(2500)])
        port = redis.port
        redis.restart()
        assert redis.port == port
        entries = redis.entries("s")
        assert [entry[0] for entry in entries] == ids
        assert [int(entry[1][b"n"]) for entry in entries] == list(range(2500))


def test_redis_tells_values_and_errors(bench):
    with servers.Redis(bench.path("redis"), maxmemory="3mb") as redis:
        assert redis.call("GET", "none") is None
        assert redis.call("RPUSH", "l", b"\r\n\0", "text") == 2
        assert redis.call("LRANGE", "l", 0, -1) == [b"\r\n\0", b"text"]
        with pytest.raises(servers.Error, match="WRONGTYPE"):
            redis.call("GET", "l")
        with pytest.raises(servers.Error, match="OOM"):
            while True:
                redis.call("APPEND", "a", "x" * 100000)


def test_redis_asks_who_it_is(bench):
    with servers.Redis(bench.path("redis"), password="top", tls=True,
                       users=["reader on >low ~s* +@read +ping"]) as redis:
        assert redis.call("PING") == b"PONG"
        reader = redis.client("reader", "low")
        with pytest.raises(servers.Error, match="NOPERM"):
            reader.call("SET", "s", 1)
        reader.close()
        with pytest.raises(servers.Error, match="WRONGPASS"):
            redis.client(password="wrong")


def test_a_paused_server_answers_once_it_goes_on(bench):
    with servers.Redis(bench.path("redis")) as redis:
        client = redis.client(seconds=0.2)
        redis.pause()
        client.ask("PING")
        with pytest.raises(TimeoutError):
            client.answer()
        client.close()
        redis.resume()
        assert redis.call("PING") == b"PONG"
        redis.pause()  # close() ends it all the same


def test_a_server_dies_with_its_test(bench):
    code = ("import sys, os; sys.path.insert(0, %r)\n"
            "import servers\n"
            "redis = servers.Redis(%r)\n"
            "print(redis.pid, flush=True)\n"
            "os.kill(os.getpid(), 9)\n" % (str(helper.HERE), str(bench.path("redis"))))
    servers.program("redis-server")
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          timeout=helper.PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL
    helper.wait_for(lambda: not os.path.exists("/proc/%d" % int(done.stdout)) or
                    b") Z" in open("/proc/%d/stat" % int(done.stdout), "rb").read(),
                    "the server has died")


def test_nats_keeps_a_stream_over_a_kill(bench):
    with servers.Nats(bench.path("nats")) as nats:
        nats.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
        assert nats.publish("s.a", "one", {"Nats-Msg-Id": "1", "tenant": "acme"})["seq"] == 1
        assert nats.publish("s.a", "one", {"Nats-Msg-Id": "1"})["duplicate"]
        for number in range(2, 601):
            nats.publish("s.b", b"%d" % number)
        nats.restart()
        nats.api("STREAM.MSG.DELETE.S", {"seq": 2})
        assert nats.stream("S")["state"]["messages"] == 599
        found = nats.messages("S")
        assert [message.seq for message in found] == [1, *range(3, 601)]
        assert found[0].data == b"one" and found[0].subject == "s.a"
        assert found[0].headers == {"Nats-Msg-Id": "1", "tenant": "acme"}
        assert found[-1].data == b"600"


def test_nats_tells_errors(bench):
    with servers.Nats(bench.path("nats"), jetstream={"max_file_store": 1000000}) as nats:
        with pytest.raises(servers.Error, match="not found") as caught:
            nats.stream("NONE")
        assert caught.value.code == 10059
        with pytest.raises(servers.Error, match="nobody answers") as caught:
            nats.publish("nowhere", b"")
        assert caught.value.code == 503
        with pytest.raises(servers.Error, match="storage"):
            nats.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 10000000})


def test_nats_delivers_to_subscribers_over_tls(bench):
    users = [{"user": "test", "password": "p"},
             {"user": "low", "password": "q", "permissions": {"publish": "open"}}]
    with servers.Nats(bench.path("nats"), users=users, tls="verify") as nats:
        client, low = nats.client(), nats.client("low", "q")
        sid = client.subscribe(">")
        low.publish("open", b"1", {"a": "b"}, reply="back")
        low.flush()
        got = client.receive(sid)
        assert (got.subject, got.data, got.headers, got.reply) == \
            ("open", b"1", {"a": "b"}, "back")
        low.publish("closed", b"2")
        with pytest.raises(servers.Error, match="Permissions Violation"):
            low.flush()
        client.close()
        low.close()
        with pytest.raises(servers.Error, match="Authorization"):
            nats.client("low", "wrong")


def test_a_token_and_no_jetstream(bench):
    with servers.Nats(bench.path("nats"), jetstream=False, token="t0ken") as nats:
        assert nats.url() == "nats://t0ken@127.0.0.1:%d" % nats.port
        with pytest.raises(servers.Error, match="nobody answers"):
            nats.api("INFO")


def test_a_missing_server_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(pytest.skip.Exception, match="nats-server is not installed"):
        servers.program("nats-server")
