"""SIGKILL while mail goes out: none is lost, each that arrives twice was said to be uncertain, and no more are uncertain than
connections were open.

Twenty rounds with a few dozen deliveries each; POSTROOM_DELIVERY_ROUNDS and POSTROOM_DELIVERIES (in all) ask for others
(`make soak`: 300 and 20,000), POSTROOM_SEED for another course of events.
"""

import json
import os
import random
import signal
import smtplib
import threading
import time
from collections import Counter

import pytest

from host import Conversation, Host
from mail import message
from postroom import Closed, eventually

ROUNDS = int(os.environ.get("POSTROOM_DELIVERY_ROUNDS", 20))
DELIVERIES = int(os.environ.get("POSTROOM_DELIVERIES", 60 * ROUNDS))
SEED = int(os.environ.get("POSTROOM_SEED", 20260101))
pytestmark = [pytest.mark.ours, pytest.mark.needs("relay"), pytest.mark.timeout(120 + 10 * ROUNDS + DELIVERIES / 20)]


class Sink(Host):
    """Records what it accepted, whether or not its answer was heard. While it is closed nobody is greeted."""

    def __init__(self):
        self.accepted: Counter[str] = Counter()
        self.lock, self.opened, self.connections = threading.Lock(), threading.Event(), 0
        self.opened.set()
        super().__init__()
        self.RequestHandlerClass = Counted

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "greeting":
            self.opened.wait()
        # So that a kill finds mails in every stage.
        time.sleep(0.002)
        return None

    def take(self, sender: str, recipients: list[str], body: bytes) -> None:
        with self.lock:
            self.accepted.update(recipients)


class Counted(Conversation):
    def handle(self):
        with self.server.lock:
            self.server.connections += 1
        try:
            super().handle()
        except OSError:
            pass
        finally:
            with self.server.lock:
                self.server.connections -= 1


def feed(server, chance: random.Random, name: str, count: int, acknowledged: list[str]) -> None:
    """Hands in messages of one to three recipients until there were `count`, or the server dies."""
    try:
        with server.connect("smtp") as smtp:
            smtp.reply()
            smtp.ask("EHLO client.test", "250")
            n = 0
            while n < count:
                to = [f"{name}-{n + i}@out.test" for i in range(chance.choice([1, 1, 1, 3]))]
                n += len(to)
                smtp.ask("MAIL FROM:<me@elsewhere.test> BODY=8BITMIME", "250")
                for each in to:
                    smtp.ask(f"RCPT TO:<{each}>", "250")
                smtp.ask("DATA", "354")
                smtp.socket.sendall(message(name) + b".\r\n")
                smtp.expect("250")
                acknowledged.extend(to)
    except (Closed, OSError):
        pass


def uncertain(server) -> dict[str, int]:
    """How many attempts of each recipient have an unknown outcome, and the message it is of."""
    found = {}
    for each in json.loads(server.cli("queue", "list", "--json")):
        for recipient in each["recipients"]:
            if recipient["uncertain"]:
                found[recipient["to"]] = (each["id"], recipient["uncertain"])
    return found


def killed(server, sink: Sink) -> int:
    """The server stops in the middle of whatever it does, and dies; gives the connections that were open then."""
    os.kill(server.process.pid, signal.SIGSTOP)
    time.sleep(0.02)
    connections = sink.connections
    server.kill()
    eventually("its connections are gone", lambda: sink.connections == 0)
    return connections


def test_none_is_lost_and_none_comes_twice_unsaid(make_server):
    print(f"POSTROOM_SEED={SEED}")
    chance, acknowledged, said = random.Random(SEED), [], Counter()
    seen: dict[str, int] = {}
    with Sink() as sink:
        server = make_server(accounts=0, trusted=("127.0.0.0/8",), extra=sink.route("out.test"))
        server.start()
        for turn in range(ROUNDS):
            arguments = (server, random.Random(chance.random()), f"r{turn}", DELIVERIES // ROUNDS, acknowledged)
            feeding = threading.Thread(target=feed, args=arguments)
            feeding.start()
            time.sleep(chance.uniform(0.02, 0.5))
            connections = killed(server, sink)
            feeding.join(60)
            sink.opened.clear()
            server.start()
            now = uncertain(server)
            new = {to: id for to, (id, times) in now.items() if times > seen.get(to, 0)}
            seen.update({to: times for to, (_, times) in now.items()})
            said.update(new.keys())
            # A transaction may have several recipients.
            assert len(set(new.values())) <= connections, f"{connections} connections, and {new} are uncertain"
            sink.opened.set()
        eventually("all is sent", lambda: json.loads(server.cli("queue", "list", "--json")) == [], 60 + DELIVERIES / 50, 0.2)
        told = server.cli("events", "--type", "delivery.queued,delivery.uncertain").splitlines()
        server.stop()
        server.verify()
    events = {kind: Counter() for kind in ("delivery.queued", "delivery.uncertain")}
    for one in map(json.loads, told):
        events[one["type"]][one["recipient"]] += 1
    # A mail that was taken, and whose sender never heard so, is queued too.
    assert set(acknowledged) <= set(events["delivery.queued"]) and events["delivery.uncertain"] == said
    lost = set(acknowledged) - set(sink.accepted)
    twice = {to: times for to, times in sink.accepted.items() if times > 1}
    unsaid = {to: times for to, times in twice.items() if times - 1 > said[to]}
    print(f"{len(acknowledged)} acknowledged, {len(said)} uncertain, {len(twice)} arrived twice")
    assert not lost and not unsaid, f"lost {lost}, twice and not said to be uncertain {unsaid}"
    assert len(acknowledged) > ROUNDS, "there was no load"


def persist(server, name: str, over: threading.Event, acknowledged: list[str]) -> None:
    """Hands in a message at a time; what is not taken now comes again under another name."""
    n = 0
    while not over.is_set():
        try:
            with server.smtp() as client:
                while not over.is_set():
                    n += 1
                    client.sendmail("me@elsewhere.test", f"{name}-{n}@out.test", message(name))
                    acknowledged.append(f"{name}-{n}@out.test")
        except (smtplib.SMTPException, OSError):
            time.sleep(0.05)


@pytest.mark.skipif(os.environ.get("POSTROOM_STORE") != "postgresql", reason="it is PostgreSQL that is restarted")
def test_a_restart_of_postgresql_loses_and_doubles_nothing(make_server):
    import postgresql

    over, acknowledged = threading.Event(), []
    with Sink() as sink:
        server = make_server(accounts=0, trusted=("127.0.0.0/8",), extra=sink.route("out.test"))
        server.start()
        senders = [threading.Thread(target=persist, args=(server, f"s{n}", over, acknowledged)) for n in range(3)]
        for each in senders:
            each.start()
        chance = random.Random(SEED)
        for how in [signal.SIGINT, signal.SIGQUIT, signal.SIGQUIT]:
            before = len(acknowledged)
            eventually("mail flows", lambda: len(acknowledged) > before + 20, 30)
            time.sleep(chance.uniform(0, 0.3))
            postgresql.cluster().restart(how)
        before = len(acknowledged)
        eventually("mail flows", lambda: len(acknowledged) > before + 20, 30)
        over.set()
        for each in senders:
            each.join(30)
        eventually("all is sent", lambda: json.loads(server.cli("queue", "list", "--json")) == [], 60, 0.2)
        server.stop()
        server.verify()
    lost = set(acknowledged) - set(sink.accepted)
    twice = {to: times for to, times in sink.accepted.items() if times > 1}
    print(f"{len(acknowledged)} acknowledged")
    assert not lost and not twice, f"lost {lost}, twice {twice}"
