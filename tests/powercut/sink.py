"""The host beyond the queue: it notes in the ledger what it takes, before it says so."""

import sys
import threading

from host import Host
from mail import fields_before
from powercut.ledger import Ledger
from powercut.look import token_of

ELSEWHERE = "out.test"


class Sink(Host):
    """Refuses recipients that begin with `bad`; while it is moody, those that begin with `slow` are to come later."""

    def __init__(self, ledger: Ledger, moody: bool):
        self.ledger, self.moody = ledger, moody
        self.awake = threading.Event()
        self.awake.set()
        super().__init__()

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "greeting":
            self.awake.wait(60)
        if verb == "RCPT" and "<bad-" in line:
            return "550 5.1.1 No such user"
        if verb == "RCPT" and "<slow-" in line and self.moody:
            return "451 4.2.1 Not now"
        return None

    def take(self, sender: str, recipients: list[str], body: bytes) -> None:
        fields = fields_before(body, self.ledger.sent[token_of(body)])
        assert set(fields) <= {"Received", "DKIM-Signature"}, fields
        self.ledger.taken(recipients)

    def handle_error(self, request, address) -> None:
        """A server that dies says no goodbye; anything else is a mail that is not what was sent."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.ledger.complaints.append(f"at the host: {error!r}"[:500])

