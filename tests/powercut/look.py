"""What a program finds in an account after a cut, by POP3 and by IMAP."""

import json
import re
from collections import Counter

from mail import fields_before
from postroom import PASSWORD, Dialogue, Server
from powercut.ledger import Found, Kept, Ledger


def mails(server: Server, ledger: Ledger, account: str, by_imap: bool) -> list[Found]:
    """Every mail of an account; its bytes must be those that were sent."""
    found = []
    for stored, state, uid in _by_imap(server, account) if by_imap else _by_pop3(server, account):
        token = token_of(stored)
        fields = fields_before(stored, ledger.sent[token])
        assert set(fields) <= {"Return-Path", "Delivered-To", "Received"}, fields
        found.append(Found(token, state, uid))
    return found


def token_of(head: bytes) -> str:
    found = re.search(rb"^X-Token: (\S+)", head, re.M)
    assert found, f"not a mail of this test: {head[:500]!r}"
    return found[1].decode()


def _by_pop3(server: Server, account: str) -> list[tuple[bytes, Kept, None]]:
    with server.connect("pop3") as pop3:
        for line in ["", f"USER {account}", f"PASS {PASSWORD}", "STAT"]:
            if line:
                pop3.send(line)
            answer = pop3.line()
            assert answer.startswith("+OK"), answer
        count = int(answer.split()[1])
        pop3.raw(b"".join(b"RETR %d\r\n" % number for number in range(1, count + 1)) + b"QUIT\r\n")
        data = pop3._buffer + b"".join(iter(lambda: pop3.socket.recv(1 << 20), b""))
    found = []
    for _ in range(count):
        status, _, data = data.partition(b"\r\n")
        assert status.startswith(b"+OK"), status
        end = data.index(b"\r\n.\r\n")
        found.append((re.sub(rb"^\.", b"", data[: end + 2], flags=re.M), Kept(), None))
        data = data[end + 5 :]
    return found


def waiting(server: Server) -> dict[str, dict]:
    """By recipient: what of the queue is still to be sent, with its message's number as `id`."""
    listed = json.loads(server.cli("--json", "queue", "list"))
    assert len(listed) < 1000, "the list is cut"
    damaged = [message for message in listed if "recipients" not in message]
    assert not damaged, f"the queue holds what cannot be read: {damaged}"
    return {
        each["to"]: {**each, "id": message["id"]}
        for message in listed
        for each in message["recipients"]
        if each["state"] in ("waiting", "claimed")
    }


def is_empty(server: Server) -> bool:
    return server.cli("--json", "queue", "list").strip() == "[]"


def reports(server: Server, account: str) -> Counter:
    """How many reports an account has about each recipient (RFC 3464 §2.3.2)."""
    found = Counter()
    for raw, *_ in _by_pop3(server, account):
        found.update(to.decode() for to in re.findall(rb"^Final-Recipient: *rfc822; *(\S+)", raw, re.M | re.I))
    return found


def signed_in(server: Server, account: str) -> Dialogue:
    imap = server.connect("imap")
    imap.line()
    imap.tagged("in", f'LOGIN "{account}" "{PASSWORD}"')
    return imap


def mailboxes(imap: Dialogue) -> list[str]:
    lines = imap.tagged("list", 'LIST "" "*"')
    return [re.search(r'"?([^" ]+)"?$', line)[1] for line in lines if line.startswith("* LIST")]


def made_mailboxes(server: Server, account: str) -> set[str]:
    """Those that the work has made; the others come with the account."""
    with signed_in(server, account) as imap:
        return {name for name in mailboxes(imap) if name == "Filed" or name.startswith("run")}


def _by_imap(server: Server, account: str) -> list[tuple[bytes, Kept, int]]:
    found = []
    with signed_in(server, account) as imap:
        for mailbox in mailboxes(imap):
            imap.tagged("look", f"EXAMINE {mailbox}")
            found += [(raw, Kept(mailbox, flags), uid) for uid, flags, raw in fetched(imap, "BODY.PEEK[]")]
    return found


def fetched(imap: Dialogue, what: str) -> list[tuple[int, frozenset[str], bytes]]:
    """UID, flags and one literal of each mail of the selected mailbox."""
    imap.send(f"all UID FETCH 1:* (UID FLAGS {what})")
    found = []
    while not (line := imap.line()).startswith("all "):
        literal = re.search(r"\{(\d+)\}$", line)
        if re.match(r"\* \d+ FETCH", line) and literal:
            raw = imap.octets(int(literal[1]))
            line += imap.line()
            flags = re.search(r"FLAGS \(([^)]*)\)", line)[1].split()
            found.append((int(re.search(r"UID (\d+)", line)[1]), frozenset(flags) - {"\\Recent"}, raw))
    assert line.startswith("all OK"), line
    return found
