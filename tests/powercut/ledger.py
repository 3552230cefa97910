"""What must be on the disk at each place of the log, and what may be: the clients note it while they work.

A place is the log's length. A client notes it before it asks for something and again when it has read the answer: up to
the first the old state holds, from the second on the new one, in between either may be found.
"""

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Kept:
    """A mail that stands in a mailbox."""

    mailbox: str = "INBOX"
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """A mail that somebody sees; its UID where he sees it by IMAP."""

    token: str
    state: Kept
    uid: int | None = None


@dataclass
class Step:
    state: Kept | None
    begun: int
    done: int | None = None


@dataclass
class Life:
    """The states of one mail of one account (or of an account itself), in their order; None: it is not there."""

    steps: list[Step] = field(default_factory=list)

    def allowed(self, place: int) -> list[Kept | None]:
        done = [n for n, step in enumerate(self.steps) if step.done is not None and step.done <= place]
        certain, rest = (self.steps[done[-1]].state, self.steps[done[-1] + 1 :]) if done else (None, self.steps)
        return [certain, *(step.state for step in rest if step.begun < place)]


@dataclass
class Leaving:
    """A mail on its way to one recipient elsewhere."""

    to: str
    accepted: Step
    reports: int
    """So many are owed to its sender in the end."""
    taken: list[int] = field(default_factory=list)
    """Where a host was about to say that it has it."""
    cancelled: Step | None = None
    gone: int | None = None
    """Somebody saw that the queue was done with it."""

    def sure(self, place: int) -> bool:
        return self.accepted.done is not None and self.accepted.done <= place

    def had(self, place: int) -> bool:
        return any(taken <= place for taken in self.taken)


class Ledger:
    def __init__(self, log: Path):
        self.log = log
        self.lock = threading.Lock()
        self.mails: dict[str, dict[str, Life]] = {}
        """By account and token."""
        self.names: dict[str, dict[str, Life]] = {"account": {}, "mailbox": {}}
        self.sent: dict[str, bytes] = {}
        """By token."""
        self.uids: dict[tuple[str, str, str], int] = {}
        """By account, token and mailbox: no mail comes to the same mailbox twice."""
        self.leaving: dict[str, Leaving] = {}
        """By recipient: each gets one mail."""
        self.complaints: list[str] = []
        """What can never be right, wherever the power fails."""

    def place(self) -> int:
        return os.stat(self.log).st_size if self.log.exists() else 0

    def begin(self, changes: list[tuple[Life, Kept | None]]) -> list[Step]:
        """Somebody is about to ask for this; `done` tells that it was granted."""
        begun = self.place()
        steps = [Step(state, begun) for _, state in changes]
        with self.lock:
            for (life, _), step in zip(changes, steps):
                life.steps.append(step)
        return steps

    def done(self, steps: list[Step]) -> None:
        now = self.place()
        for step in steps:
            step.done = now

    def arriving(self, token: str, raw: bytes, to: list[str], state: Kept = Kept()) -> list[Step]:
        lives = [Life() for _ in to]
        steps = self.begin([(life, state) for life in lives])
        self.sent[token] = raw
        for account, life in zip(to, lives):
            self.mails.setdefault(account, {})[token] = life
        return steps

    def naming(self, kind: str, name: str, there: bool = True) -> list[Step]:
        """An account or a mailbox is made or deleted."""
        return self.begin([(self.names[kind].setdefault(name, Life()), Kept() if there else None)])

    def uid(self, account: str, token: str, mailbox: str, uid: int) -> int:
        """A mail's UID in a mailbox was seen; gives what was seen first."""
        return self.uids.setdefault((account, token, mailbox), uid)

    def departing(self, token: str, raw: bytes, to: dict[str, int]) -> list[Step]:
        """A mail for recipients elsewhere, with the number of reports that each is owed."""
        step = Step(Kept(), self.place())
        self.sent[token] = raw
        with self.lock:
            self.leaving.update({each: Leaving(each, step, reports) for each, reports in to.items()})
        return [step]

    def taken(self, recipients: list[str]) -> None:
        place = self.place()
        with self.lock:
            for each in recipients:
                self.leaving[each].taken.append(place)

    def seen_gone(self, known: list[str], waiting: set[str]) -> None:
        """The queue was looked at: of those that were accepted before, it is done with all that do not wait."""
        place = self.place()
        for each in set(known) - waiting:
            if self.leaving[each].gone is None:
                self.leaving[each].gone = place

    # -- after a cut ------------------------------------------------------------------------------------------------

    def wrong_names(self, place: int, kind: str, found: set[str]) -> list[str]:
        lives = self.names[kind]
        wrong = [f"nobody asked for the {kind} {name}" for name in found - set(lives)]
        for name, life in lives.items():
            if (name in found) not in [state is not None for state in life.allowed(place)]:
                wrong.append(f"the {kind} {name} is {'there' if name in found else 'lost'}")
        return wrong

    def wrong_mails(self, place: int, account: str, found: list[Found]) -> list[str]:
        times = Counter(mail.token for mail in found)
        wrong = [f"{account}: {token} is there {n} times" for token, n in times.items() if n > 1]
        lives, states = self.mails.get(account, {}), {mail.token: mail.state for mail in found}
        for token in set(lives) | set(states):
            allowed = lives[token].allowed(place) if token in lives else [None]
            if states.get(token) not in allowed:
                wrong.append(f"{account}: {token} is {states.get(token)}, may be {allowed}")
        return wrong

    def wrong_queue(self, place: int, waiting: dict[str, int]) -> list[str]:
        """`waiting` are the recipients that were found in the queue, each with its attempts of unknown outcome."""
        wrong = [f"nobody asked for mail to {to}" for to in set(waiting) - set(self.leaving)]
        for to, mail in self.leaving.items():
            cancelled = mail.cancelled
            if to not in waiting:
                may_be_done = mail.had(place) or to.startswith("bad") or (cancelled and cancelled.begun < place)
                wrong += [f"mail to {to} is lost"] if mail.sure(place) and not may_be_done else []
                continue
            if mail.accepted.begun >= place:
                wrong.append(f"nobody had asked for mail to {to} yet")
            if mail.gone is not None and mail.gone <= place:
                wrong.append(f"mail to {to} is back")
            if cancelled and cancelled.done is not None and cancelled.done <= place:
                wrong.append(f"mail to {to} was cancelled")
            if mail.had(place) and not waiting[to]:
                wrong.append(f"mail to {to} is sent again and not marked as uncertain")
        return wrong

    def wrong_ends(self, place: int, waiting: dict[str, int], taken: Counter, reports: Counter) -> list[str]:
        """When all that waited was sent: what the host took since, and the reports that the sender has."""
        wrong = []
        for to, mail in self.leaving.items():
            expected = int(to in waiting and not to.startswith("bad"))
            if taken[to] != expected:
                wrong.append(f"mail to {to} was sent {taken[to]} times, not {expected}")
            certain = mail.sure(place) or to in waiting
            if reports[to] != mail.reports and (certain or reports[to]):
                wrong.append(f"{reports[to]} reports about {to}, not {mail.reports}")
        return wrong

    def after_cut(self, log: Path) -> "Ledger":
        """The ledger of what comes after a cut: what was found there was on the disk, so another one must leave it."""
        after = Ledger(log)
        after.sent = dict(self.sent)
        return after

    def settle_queue(self, before: "Ledger", waiting: dict[str, int]) -> None:
        """What waits now is as if it were accepted at the beginning; with the rest the queue is done."""
        for to, mail in before.leaving.items():
            if to in waiting:
                self.leaving[to] = Leaving(to, Step(Kept(), 0, 0), mail.reports)
            else:
                self.leaving[to] = Leaving(to, Step(Kept(), 0), mail.reports, taken=[0], gone=0)

    def settle_names(self, kind: str, found: set[str]) -> None:
        self.names[kind].update({name: Life([Step(Kept(), 0, 0)]) for name in found})

    def settle_mails(self, account: str, found: list[Found]) -> None:
        self.mails.setdefault(account, {}).update({mail.token: Life([Step(mail.state, 0, 0)]) for mail in found})
