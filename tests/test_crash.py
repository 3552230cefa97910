"""SIGKILL under load: what was acknowledged before is there after, once; what was deleted stays deleted.

Twenty rounds; POSTROOM_CRASH_ROUNDS asks for others (`make soak`: 200), POSTROOM_SEED for another course of events.
"""

import os
import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from mail import message
from postroom import PASSWORD, Closed, user

ROUNDS = int(os.environ.get("POSTROOM_CRASH_ROUNDS", 20))
SEED = int(os.environ.get("POSTROOM_SEED", 20260101))
SENDERS = 6
ACCOUNTS = 4
SERVER = {"accounts": ACCOUNTS}
pytestmark = [pytest.mark.ours, pytest.mark.timeout(60 + 30 * ROUNDS)]


class Ledger:
    """What must be in each mailbox, and what may be: the token of each message, by account."""

    def __init__(self):
        self.must: dict[str, set[str]] = {user(n): set() for n in range(ACCOUNTS)}
        self.may: dict[str, set[str]] = {user(n): set() for n in range(ACCOUNTS)}
        # A message may be seen and deleted before its sender has read the 250.
        self.doomed: set[tuple[str, str]] = set()
        self.count = 0
        self.lock = threading.Lock()

    def sending(self, token: str, to: list[str]) -> None:
        with self.lock:
            for each in to:
                self.may[each].add(token)

    def acknowledged(self, token: str, to: list[str]) -> None:
        with self.lock:
            self.count += len(to)
            for each in to:
                if (each, token) not in self.doomed:
                    self.may[each].discard(token)
                    self.must[each].add(token)

    def deleting(self, name: str, tokens: set[str]) -> None:
        with self.lock:
            self.must[name] -= tokens
            self.may[name] |= tokens
            self.doomed |= {(name, token) for token in tokens}

    def deleted(self, name: str, tokens: set[str]) -> None:
        with self.lock:
            self.may[name] -= tokens

    def check(self, name: str, found: list[str]) -> None:
        twice = {token for token, times in Counter(found).items() if times > 1}
        lost, strange = self.must[name] - set(found), set(found) - self.must[name] - self.may[name]
        assert not (twice or lost or strange), f"{name}: lost {lost}, there twice {twice}, back from the dead {strange}"
        # From now on both are certain.
        self.must[name], self.may[name] = set(found), set()


def send(server, ledger: Ledger, chance: random.Random, name: str, port: str) -> None:
    """Sends message after message until the server dies."""
    sent = 0
    try:
        with server.connect(port) as smtp:
            smtp.reply()
            smtp.ask("LHLO client.test" if port == "lmtp" else "EHLO client.test", "250")
            while True:
                sent += 1
                token = f"{name}-{sent}"
                to = chance.sample(list(ledger.must), chance.choice([1, 1, 2]))
                body = "x" * chance.choice([10, 1000, 60_000])
                raw = message("crash", re.sub("(.{70})", r"\1\r\n", body) + "\r\n", f"X-Token: {token}\r\n")
                smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
                for each in to:
                    smtp.ask(f"RCPT TO:<{each}>", "250")
                smtp.ask("DATA", "354")
                ledger.sending(token, to)
                smtp.socket.sendall(raw + b".\r\n")
                for each in to if port == "lmtp" else [""]:
                    smtp.expect("250")
                    ledger.acknowledged(token, [each] if port == "lmtp" else to)
    except (Closed, OSError):
        pass


def tokens(pop3) -> list[str]:
    """The token of every message of a session, in order."""
    pop3.send("STAT")
    count = int(pop3.line().split()[1])
    pop3.raw(b"".join(b"TOP %d 0\r\n" % number for number in range(1, count + 1)))
    found = []
    for _ in range(count):
        assert pop3.line().startswith("+OK")
        found += [line.split()[1] for line in iter(pop3.line, ".") if line.startswith("X-Token:")]
    assert len(found) == count
    del pop3.said[:]
    return found


def signed_in(server, name: str):
    pop3 = server.connect("pop3")
    for line in ["", f"USER {name}", f"PASS {PASSWORD}"]:
        if line:
            pop3.send(line)
        assert pop3.line().startswith("+OK")
    return pop3


def empty(server, ledger: Ledger, chance: random.Random) -> None:
    """Fetches and deletes all of some account's mail, again and again, until the server dies."""
    try:
        while True:
            name = chance.choice(list(ledger.must))
            with signed_in(server, name) as pop3:
                there = tokens(pop3)
                pop3.raw(b"".join(b"DELE %d\r\n" % number for number in range(1, len(there) + 1)))
                for _ in there:
                    assert pop3.line().startswith("+OK")
                ledger.deleting(name, set(there))
                pop3.send("QUIT")
                assert pop3.line().startswith("+OK")
                ledger.deleted(name, set(there))
    except (Closed, OSError):
        pass


def test_nothing_acknowledged_is_lost(server):
    print(f"POSTROOM_SEED={SEED}")
    chance, ledger = random.Random(SEED), Ledger()
    for turn in range(ROUNDS):
        with ThreadPoolExecutor(SENDERS + 1) as pool:
            work = [pool.submit(empty, server, ledger, random.Random(chance.random()))]
            for n in range(SENDERS):
                port = "lmtp" if n % 2 else "smtp"
                work.append(pool.submit(send, server, ledger, random.Random(chance.random()), f"{turn}-{n}", port))
            time.sleep(chance.uniform(0.05, 1.0))
            server.kill()
            for each in work:
                each.result(60)
        server.start()
        server.verify()
        for name in ledger.must:
            with signed_in(server, name) as pop3:
                ledger.check(name, tokens(pop3))
                pop3.send("QUIT")
                pop3.line()
        print(f"round {turn}: {ledger.count} acknowledged so far")
    assert ledger.count > ROUNDS, "there was no load"
