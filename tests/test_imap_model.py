"""Three sessions do what chance says, hang up, come back with old QRESYNC state: each must know what the mailbox holds.

One thread does all of it in turn, so that what is true is a dictionary: the flags of each message by UID. POSTROOM_SEED
chooses another course of events, POSTROOM_MODEL_STEPS a longer one.
"""

import os
import random
import re
import smtplib

import pytest

from mail import message
from postroom import PASSWORD

pytestmark = [pytest.mark.needs("imap"), pytest.mark.timeout(600)]
STEPS = int(os.environ.get("POSTROOM_MODEL_STEPS", 400))
SEED = int(os.environ.get("POSTROOM_SEED", 1))
FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "$Work", "$Later"]
Truth = dict[int, frozenset[str]]


def numbers(sequence: str) -> list[int]:
    found = []
    for part in sequence.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


class Session:
    """A client that keeps a mailbox by QRESYNC (RFC 7162): what it has heard is all that it knows."""

    def __init__(self, server, user: str):
        self.server, self.user = server, user
        self.known: Truth = {}
        self.validity = self.modseq = 0
        self.imap = None

    def open(self) -> None:
        self.imap = self.server.connect("imap")
        self.imap.line()
        self.imap.tagged("in", f'LOGIN "{self.user}" "{PASSWORD}"')
        self.imap.tagged("en", "ENABLE QRESYNC")
        since = f" (QRESYNC ({self.validity} {self.modseq}))" if self.validity else ""
        self.run(f"SELECT INBOX{since}")
        if not since:
            self.run("UID FETCH 1:* (FLAGS)")

    def close(self) -> None:
        self.imap.close()
        self.imap = None

    def run(self, command: str) -> None:
        """Runs a command, hears what comes with it, and asks about messages that are new."""
        self.hear(self.imap.tagged("t", command))
        if self.exists > len(self.known):
            self.hear(self.imap.tagged("n", f"UID FETCH {max(self.known, default=0) + 1}:* (FLAGS)"))
        del self.imap.said[:-60]

    exists = 0

    def hear(self, lines: list[str]) -> None:
        for line in lines:
            if found := re.search(r"\[UIDVALIDITY (\d+)\]", line):
                self.validity = int(found[1])
            if found := re.search(r"\[HIGHESTMODSEQ (\d+)\]", line):
                self.modseq = max(self.modseq, int(found[1]))
            if found := re.match(r"\* (\d+) EXISTS", line):
                self.exists = int(found[1])
            if found := re.match(r"\* VANISHED (\(EARLIER\) )?(\S+)", line):
                gone = [uid for uid in numbers(found[2]) if self.known.pop(uid, None) is not None]
                self.exists -= 0 if found[1] else len(gone)
            if re.match(r"\* \d+ FETCH ", line):
                uid = int(re.search(r"UID (\d+)", line)[1])
                if found := re.search(r"FLAGS \((.*?)\)", line):  # after a .SILENT there is the MODSEQ alone
                    self.known[uid] = frozenset(found[1].split()) - {"\\Recent"}
                if found := re.search(r"MODSEQ \((\d+)\)", line):
                    self.modseq = max(self.modseq, int(found[1]))


class World:
    """The mailbox, the sessions, and the truth about it."""

    def __init__(self, server, user: str, chance: random.Random):
        self.server, self.user, self.chance = server, user, chance
        self.truth: Truth = {}
        self.sessions = [Session(server, user) for _ in range(3)]
        self.next_uid = 1

    def set_of(self, session: Session) -> str:
        """Some UIDs that a session knows, as a set; they may be gone by now."""
        uids = sorted(self.chance.sample(sorted(session.known), min(len(session.known), self.chance.randint(1, 4))))
        return ",".join(map(str, uids))

    def step(self) -> str:
        session = self.chance.choice(self.sessions)
        if session.imap is None:
            session.open()
            return "open"
        verbs = [self.store, self.store, self.store, self.expunge, self.append, self.deliver, self.move, self.hang_up,
                 lambda s: s.run("NOOP")]  # fmt: skip
        verb = self.chance.choice(verbs)
        if not session.known and verb in (self.store, self.expunge, self.move):
            verb = self.append
        verb(session)
        return getattr(verb, "__name__", "noop")

    def store(self, session: Session) -> None:
        uids, sign = self.set_of(session), self.chance.choice(["+", "-", ""])
        flags = frozenset(self.chance.sample(FLAGS, self.chance.randint(0 if not sign else 1, 3)))
        silent = self.chance.choice(["", ".SILENT"])
        # Of a silent STORE the session knows by itself what it does; what others did before, it must hear.
        for state in [self.truth, session.known] if silent else [self.truth]:
            for uid in numbers(uids):
                if uid in state:
                    old = state[uid]
                    state[uid] = old | flags if sign == "+" else old - flags if sign == "-" else flags
        session.run(f"UID STORE {uids} {sign}FLAGS{silent} ({' '.join(sorted(flags))})")

    def expunge(self, session: Session) -> None:
        uids = self.set_of(session)
        session.run(f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)")
        session.run(f"UID EXPUNGE {uids}")
        for uid in numbers(uids):
            self.truth.pop(uid, None)

    def move(self, session: Session) -> None:
        # Up to date first: of messages that are gone a server may refuse the whole (RFC 2180 §4.4.1).
        session.run("NOOP")
        uids = self.set_of(session)
        if not uids:
            return
        session.run(f"UID MOVE {uids} Elsewhere")
        for uid in numbers(uids):
            self.truth.pop(uid, None)

    def append(self, session: Session) -> None:
        raw, flags = message(), frozenset(self.chance.sample(FLAGS, self.chance.randint(0, 2)))
        session.imap.raw(b"ap APPEND INBOX (%s) {%d+}\r\n%s\r\n" % (" ".join(flags).encode(), len(raw), raw))
        session.hear(session.imap.until("ap"))
        self.arrived(flags)
        session.run("NOOP")

    def deliver(self, _: Session) -> None:
        with smtplib.LMTP(self.server.address, self.server.ports["lmtp"]) as client:
            client.sendmail("a@elsewhere.test", self.user, message())
        self.arrived(frozenset())

    def arrived(self, flags: frozenset[str]) -> None:
        self.truth[self.next_uid] = flags
        self.next_uid += 1

    def hang_up(self, session: Session) -> None:
        session.close()

    def agree(self) -> None:
        """Every session, after it has asked once, knows the truth; so does one that asks for everything anew."""
        for session in [*self.sessions, Session(self.server, self.user)]:
            if session.imap is None:
                session.open()
            session.run("NOOP")
            assert session.known == self.truth, session.imap.said
        session.close()


@pytest.mark.parametrize("course", range(3))
def test_three_sessions_and_a_model(server, course):
    print(f"POSTROOM_SEED={SEED}")
    user, chance = server.user(), random.Random(f"{SEED}/{course}")
    client = server.imap(user)
    client.create("Elsewhere")
    client.logout()
    world, done = World(server, user, chance), []
    for step in range(1, STEPS + 1):
        done.append(world.step())
        if step % 20 == 0:
            try:
                world.agree()
            except AssertionError as error:
                error.add_note(f"step {step}: {done[-20:]}")
                raise
    for session in world.sessions:
        session.close()
