"""Two servers on one PostgreSQL: they share what is in the queue, and one goes on with what the other had when that is
killed or sleeps. Nothing is lost, and what arrives twice was said to be uncertain.

POSTROOM_NODE_ROUNDS and POSTROOM_NODE_DELIVERIES (to each kill) ask for more, POSTROOM_SEED for another course of events.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest

import postgresql
import test_delivery_crash
from host import Conversation, Host
from internet import Internet
from mail import message
from postroom import Failed, Server, eventually
from test_delivery_crash import feed

ROUNDS = int(os.environ.get("POSTROOM_NODE_ROUNDS", 4))
DELIVERIES = int(os.environ.get("POSTROOM_NODE_DELIVERIES", 600))
SEED = int(os.environ.get("POSTROOM_SEED", 20260101))
# More than one node takes in hand at once.
MANY = 6000
NAMES = ["everything.example.test", "sender.example.test"]
# What a dead node had is taken over within this time.
TAKEN_OVER = 30
pytestmark = [pytest.mark.ours, pytest.mark.embedded, pytest.mark.timeout(180 + 60 * ROUNDS)]


class Sink(Host):
    """Records what it accepted and from whom; slow enough that a kill finds mails in every stage."""

    def __init__(self, at: tuple[str, int] | None = None):
        self.accepted: Counter[str] = Counter()
        self.by: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.lock, self.pause = threading.Lock(), 0.004
        super().__init__(at=at)
        self.RequestHandlerClass = Named

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "end":
            time.sleep(self.pause)
        return None

    def take(self, sender: str, recipients: list[str], body: bytes) -> None:
        with self.lock:
            self.accepted.update(recipients)
            self.by[threading.current_thread().name] += len(recipients)


class Named(Conversation):
    """Knows by EHLO which node it talks to."""

    def say(self, verb: str, good: str, line: str = "") -> bool:
        if verb == "EHLO":
            name = line.partition(" ")[2]
            threading.current_thread().name = name
            with self.server.lock:
                self.server.open[name] += 1
        return super().say(verb, good, line)

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass
        finally:
            with self.server.lock:
                self.server.open[threading.current_thread().name] -= 1


made: list[Server] = []


@pytest.fixture(autouse=True)
def none_is_left():
    yield
    while made:
        one = made.pop()
        if one.running:
            one.kill()


def pair(tmp_path, way: str) -> list[Server]:
    """The server that does everything, and one that sends beside it; `way` is how they find the sink."""
    shared = f'[store]\nurl = "{postgresql.database()}"\nshared = "{tmp_path / "shared"}"\n'
    both = []
    for name in ["everything", "sender"]:
        directory = tmp_path / name
        directory.mkdir()
        one = Server(directory, accounts=0, own_certificate=False, trusted=("127.0.0.0/8",), extra=shared + way)
        text = one.config.read_text().replace("mx.example.test", f"{name}.example.test")
        if name == "sender":
            listening = tuple(f"{port} = " for port in one.ports if port != "http")
            kept = [line for line in text.splitlines() if not line.startswith(listening)]
            text = "\n".join(kept) + '\n[node]\nrole = "send"\n'
        one.config.write_text(text)
        both.append(one)
    made.extend(both)
    both[0].create()
    for one in both:
        one.start()
    return both


def ended(pair: list[Server]) -> None:
    for one in pair:
        if one.running:
            one.stop()
    pair[0].verify()


def is_empty(server: Server) -> bool:
    return json.loads(server.cli("queue", "list", "--json")) == []


def uncertain(server: Server) -> Counter:
    """By recipient: attempts of which nobody knows what came of them."""
    lines = [json.loads(line) for line in server.cli("receipt", "export").splitlines()]
    return Counter({line["to"]: line["uncertain"] for line in lines if line["uncertain"]})


def test_both_send_and_none_twice(tmp_path):
    with Sink() as sink:
        both = pair(tmp_path, sink.route("out.test"))
        acknowledged: list[str] = []
        sink.pause = 0
        # Both hear of it when it is held, and when it goes on.
        both[0].cli("queue", "hold", "--domain", "out.test")
        time.sleep(1)
        feed(both[0], random.Random(SEED), "r", MANY, acknowledged)
        assert not sink.accepted
        before = time.monotonic()
        both[1].cli("queue", "resume", "--domain", "out.test")
        eventually("all is sent", lambda: is_empty(both[1]), 60, 0.2)
        with pytest.raises(Failed, match="only sends"):
            both[1].cli("domain", "add", "other.test")
        listed = [json.loads(one.cli("queue", "nodes", "--json")) for one in both]
        ended(both)
    names = [[node["name"] for node in nodes] for nodes in listed]
    assert names == [["everything.example.test", "sender.example.test"]] * 2
    assert sorted(sink.accepted) == sorted(acknowledged) and set(sink.accepted.values()) == {1}
    print(dict(sink.by), f"{time.monotonic() - before:.1f} s")
    assert len(sink.by) == 2, "one of them sent all of it"


def test_trap_23_what_a_killed_node_had_is_taken_over(tmp_path):
    print(f"POSTROOM_SEED={SEED}")
    chance, acknowledged, told, most, longest = random.Random(SEED), [], [], 0, 0.0
    with Sink() as sink:
        both = pair(tmp_path, sink.route("out.test"))
        for turn in range(ROUNDS):
            arguments = (both[0], random.Random(chance.random()), f"r{turn}", DELIVERIES, acknowledged)
            # Much is in line, and on each connection something is under way.
            sink.pause = 0.2
            feeding = threading.Thread(target=feed, args=arguments)
            feeding.start()
            time.sleep(chance.uniform(0.2, 0.8))
            dead, alive = both if turn % 2 else both[::-1]
            # Both are at it, and then one is no more.
            os.kill(dead.process.pid, signal.SIGSTOP)
            time.sleep(0.02)
            name = dead.config.read_text().split('"')[1]
            connections = sink.open[name]
            dead.kill()
            killed = time.monotonic()
            sink.pause = 0.004
            feeding.join(60)
            eventually("the other has sent all of it", lambda: is_empty(alive), 60, 0.2)
            longest = max(longest, time.monotonic() - killed)
            dead.start()
            now = test_delivery_crash.uncertain(both[0])
            new, told = now[len(told) :], now
            # A transaction is of one message, and may have several recipients.
            messages = {message for message, _ in new}
            assert len(messages) <= connections, f"{connections} connections, and {new} are uncertain"
            most = max(most, connections)
        said = uncertain(both[0])
        ended(both)
    lost = set(acknowledged) - set(sink.accepted)
    twice = {to: times for to, times in sink.accepted.items() if times > 1}
    unsaid = {to: times for to, times in twice.items() if times - 1 > said[to]}
    print(f"{len(acknowledged)} acknowledged, {most} connections at most, {len(said)} uncertain, {len(twice)} twice")
    print(f"taken over and sent within {longest:.1f} s")
    assert not lost and not unsaid, f"lost {lost}, twice and not said to be uncertain {unsaid}"
    assert Counter(recipient for _, recipient in told) == said
    assert longest <= TAKEN_OVER


def test_trap_23_a_node_that_slept_has_nothing_more_to_say(tmp_path):
    acknowledged: list[str] = []
    with Sink() as sink:
        sink.pause = 0.05
        everything, sender = pair(tmp_path, sink.route("out.test"))
        everything.cli("queue", "hold", "--domain", "out.test")
        feed(everything, random.Random(SEED), "s", 600, acknowledged)
        # Who is asked hears of it first.
        sender.cli("queue", "resume", "--domain", "out.test")
        eventually("it sends", lambda: sink.by["sender.example.test"] > 20)
        os.kill(sender.process.pid, signal.SIGSTOP)
        try:
            eventually("the other has sent all of it", lambda: is_empty(everything), 60, 0.2)
        finally:
            os.kill(sender.process.pid, signal.SIGCONT)
        assert sender.process.wait(30) == 1
        assert "took over what this one had claimed" in sender.tail()
        sender._gone()
        said = uncertain(everything)
        # It comes back as a new one.
        sender.start()
        ended([everything, sender])
    lost = set(acknowledged) - set(sink.accepted)
    twice = {to: times for to, times in sink.accepted.items() if times > 1}
    unsaid = {to: times for to, times in twice.items() if times - 1 > said[to]}
    print(f"{len(acknowledged)} acknowledged, {len(said)} uncertain, {len(twice)} twice")
    assert not lost and not unsaid, f"lost {lost}, twice and not said to be uncertain {unsaid}"


def freeze_in_a_transaction(server: Server) -> None:
    """Stops it while it holds locks in the database."""
    holds = """SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL
               AND now() - state_change > '80 ms'"""

    def holding() -> bool:
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(0.1)
        if int(postgresql.cluster().sql(holds)):
            return True
        os.kill(server.process.pid, signal.SIGCONT)
        return False

    eventually("it is in the middle of a transaction", holding, 60, 0.005)


def test_trap_23_a_node_that_froze_in_a_transaction_holds_up_no_other(tmp_path):
    """Nobody ends its connection to the database, as if its machine had vanished from the network."""
    acknowledged: list[str] = []
    with Sink() as sink:
        sink.pause = 0.1
        everything, sender = pair(tmp_path, sink.route("out.test"))
        everything.cli("queue", "hold", "--domain", "out.test")
        feed(everything, random.Random(SEED), "f", 1200, acknowledged)
        sender.cli("queue", "resume", "--domain", "out.test")
        eventually("it sends", lambda: sink.by["sender.example.test"] > 20)
        freeze_in_a_transaction(sender)
        frozen = time.monotonic()
        sink.pause = 0.004
        eventually("the other has sent all of it", lambda: found_empty(everything), 100, 0.2)
        took = time.monotonic() - frozen
        sender.kill()
        ended([everything])
    print(f"taken over and sent within {took:.1f} s")
    assert not set(acknowledged) - set(sink.accepted)
    assert took <= TAKEN_OVER


def test_trap_22_a_node_that_stops_leaves_nothing_behind(tmp_path):
    """Neither a lease that others wait for, nor a mail of which nobody knows."""
    acknowledged: list[str] = []
    with Sink() as sink:
        sink.pause = 0.02
        everything, sender = pair(tmp_path, sink.route("out.test"))
        everything.cli("queue", "hold", "--domain", "out.test")
        feed(everything, random.Random(SEED), "s", 600, acknowledged)
        # Who is asked hears of it first, and may be gone before anybody knew that it was there.
        sender.cli("queue", "resume", "--domain", "out.test")
        eventually("it sends", lambda: sink.by["sender.example.test"] > 20)
        assert not is_empty(everything)
        sender.stop()
        named = [node["name"] for node in json.loads(everything.cli("queue", "nodes", "--json"))]
        waited = time.monotonic()
        eventually("the other has sent all of it", lambda: is_empty(everything), 30, 0.2)
        waited = time.monotonic() - waited
        said = uncertain(everything)
        ended([everything, sender])
    print(f"{dict(sink.by)}, the rest within {waited:.1f} s")
    assert named == ["everything.example.test"] and not said
    assert sorted(sink.accepted) == sorted(acknowledged) and set(sink.accepted.values()) == {1}


class Pauses(Sink):
    """Wants nothing for ten minutes, of the nodes that `of` names."""

    def __init__(self, at: tuple[str, int], *of: str):
        self.of = of
        super().__init__(at)

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "MAIL" and threading.current_thread().name in self.of:
            return "421 4.7.1 Too many recipients this hour, try again in 600 seconds"
        return super().answer(verb, line)


def paused(server: Server) -> list[str]:
    """The sites that it leaves alone, as it calls them."""
    return [site["site"] for site in json.loads(server.cli("site", "list", "--json")) if site["paused_seconds"]]


def pause_the_sender(everything: Server, sender: Server, acknowledged: list[str]) -> str:
    """It has mail that waits for the end of what the site asked for; gives what the site is called."""
    everything.cli("queue", "hold", "--domain", "out.test")
    feed(everything, random.Random(SEED), "p", 300, acknowledged)
    # Who is asked hears of it first.
    sender.cli("queue", "resume", "--domain", "out.test")
    (site,) = eventually("it is asked for a pause", lambda: paused(sender))
    return site


def test_a_pause_ends_at_all_nodes_when_one_is_told(tmp_path):
    acknowledged: list[str] = []
    with Internet(tmp_path / "net") as net, Pauses(net.left("out.test"), *NAMES) as sink:
        everything, sender = pair(tmp_path, net.laboratory())
        site = pause_the_sender(everything, sender, acknowledged)
        # What comes here is tried here, by who can.
        feed(everything, random.Random(SEED), "q", 20, acknowledged)
        eventually("so is the other", lambda: paused(everything) == [site])
        assert not sink.accepted
        sink.of = ()
        (ended_here,) = json.loads(sender.cli("site", "resume", site, "--json"))
        assert ended_here["site"] == site
        eventually("no pause is left", lambda: not paused(everything) and not paused(sender), 10)
        eventually("all is sent", lambda: is_empty(everything), 60, 0.2)
        ended([everything, sender])
    assert sorted(sink.accepted) == sorted(acknowledged) and set(sink.accepted.values()) == {1}


def test_a_pause_of_a_node_that_is_down_ends_too(tmp_path):
    """And what it had put back leaves by another, which was never asked for a pause."""
    acknowledged: list[str] = []
    with Internet(tmp_path / "net") as net, Pauses(net.left("out.test"), NAMES[1]) as sink:
        everything, sender = pair(tmp_path, net.laboratory())
        site = pause_the_sender(everything, sender, acknowledged)
        sender.stop()
        time.sleep(2)
        assert not paused(everything) and not is_empty(everything)
        (told,) = json.loads(everything.cli("site", "resume", site, "--source", "default", "--json"))
        assert (told["site"], told["source"]) == (site, "default") and told["left_seconds"] > 500
        eventually("all is sent", lambda: is_empty(everything), 60, 0.2)
        sender.start()
        eventually("it is there again", lambda: len(json.loads(sender.cli("queue", "nodes", "--json"))) == 2)
        time.sleep(1)
        kept = paused(sender)
        ended([everything, sender])
    assert not kept
    assert sorted(sink.accepted) == sorted(acknowledged) and set(sink.accepted.values()) == {1}


def takes_mail(server: Server, acknowledged: list[str]) -> bool:
    try:
        feed(server, random.Random(SEED), "d", 50, acknowledged)
    except AssertionError:
        pass  # not yet: 451
    return bool(acknowledged)


def found_empty(server: Server) -> bool:
    try:
        return is_empty(server)
    except Failed:
        return False  # not yet: it has not tried again since the database is back


def test_when_the_database_was_away_everybody_lives(tmp_path):
    """All leases are over then, and the first one back would have taken over from all others."""
    acknowledged: list[str] = []
    with Sink() as sink:
        both = pair(tmp_path, sink.route("out.test"))
        cluster = postgresql.cluster()
        cluster.process.send_signal(signal.SIGINT)
        cluster.process.wait(60)
        time.sleep(17)
        cluster._start()
        eventually("mail is taken", lambda: takes_mail(both[0], acknowledged), 60, 1)
        eventually("all is sent", lambda: found_empty(both[1]), 60, 0.5)
        time.sleep(10)
        alive = [one.process.poll() for one in both]
        ended(both)
    assert alive == [None, None]
    assert set(acknowledged) <= set(sink.accepted) and set(sink.accepted.values()) == {1}


def test_only_one_does_everything(tmp_path):
    with Sink() as sink:
        both = pair(tmp_path, sink.route("out.test"))
        text = both[1].config.read_text().replace('role = "send"', 'role = "all"')
        other = Server(tmp_path, accounts=0, own_certificate=False)
        other.config.write_text(text.replace("./data", "./third").replace(both[1].address, other.address))
        with pytest.raises(Failed, match='only one of role = "all"'):
            other.start()
        ended(both)
