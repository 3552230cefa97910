"""Real mail, 6,046 messages of it, goes in by every door and comes back byte for byte by every other."""

import imaplib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mail import Sent, corpus, pop3_all
from postroom import eventually, user

pytestmark = pytest.mark.timeout(900)

# Which accounts each door fills: the corpus is dealt out to them in turn.
DOORS = {"smtp": [0, 1, 2, 3], "lmtp": [4, 5, 6], "append": [7, 8, 9]}


@pytest.fixture(scope="module")
def messages():
    everything = corpus()
    if os.environ.get("POSTROOM_PEER"):
        # Dovecot drops an mbox's first line and an odd Return-Path on the way in by LMTP.
        return [each for each in everything if not re.match(rb"From |Return-Path: [^<]", each) and longest(each) < 998]
    return everything


def longest(message: bytes) -> int:
    return max(map(len, message.split(b"\r\n")))


def dealt(messages: list[bytes], door: str) -> dict[str, list[bytes]]:
    """What each account of a door gets."""
    accounts = DOORS[door]
    return {user(number): messages[at :: len(accounts)] for at, number in enumerate(accounts)}


def send_ahead(server, port: str, to: str, messages: list[bytes]) -> None:
    """One connection, no waiting but for the 354: the body, its dot and the next three commands leave as one."""
    with server.connect(port) as smtp:
        smtp.reply()
        smtp.ask("LHLO client.test" if port == "lmtp" else "EHLO client.test", "250")
        start = f"MAIL FROM:<stranger@elsewhere.test> BODY=8BITMIME\r\nRCPT TO:<{to}>\r\nDATA\r\n".encode()
        smtp.socket.sendall(start)
        for at, message in enumerate(messages):
            replies = [smtp.reply() for _ in range(3)]
            assert [reply[:3] for reply in replies] == ["250", "250", "354"], f"message {at}: {replies}"
            stuffed = re.sub(rb"^\.", b"..", message, flags=re.M)
            last = at + 1 == len(messages)
            smtp.socket.sendall(stuffed + b".\r\n" + (b"QUIT\r\n" if last else start))
            reply = smtp.reply()
            assert reply.startswith("250"), f"message {at}: {reply}"
            del smtp.said[:-20]
        assert smtp.reply().startswith("221")


def append_ahead(server, to: str, messages: list[bytes]) -> None:
    """APPEND with literals that do not wait (LITERAL+), twenty ahead."""
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("in", f'LOGIN "{to}" "pw"')
        for at in range(0, len(messages), 20):
            part = messages[at : at + 20]
            imap.socket.sendall(b"".join(b"a%d APPEND INBOX {%d+}\r\n%s\r\n" % (n, len(each), each)
                                         for n, each in enumerate(part)))  # fmt: skip
            for n in range(len(part)):
                imap.until(f"a{n}")
            del imap.said[:-20]
        imap.tagged("out", "LOGOUT")


def send(server, door: str, messages: list[bytes]) -> None:
    """All of the corpus through one door, all of its accounts at once."""
    with ThreadPoolExecutor() as pool:
        work = []
        for to, part in dealt(messages, door).items():
            if door == "append":
                work.append(pool.submit(append_ahead, server, to, part))
            else:
                work.append(pool.submit(send_ahead, server, door, to, part))
        for each in work:
            each.result()


def by_pop3(server, name: str) -> list[bytes]:
    client = server.pop3(name)
    stored = pop3_all(client)
    client.quit()
    return stored


def by_imap(server, name: str) -> list[bytes]:
    imaplib._MAXLINE = 1 << 20
    client = server.imap(name)
    client.select("INBOX", readonly=True)
    parts = client.fetch("1:*", "(RFC822.SIZE BODY.PEEK[])")[1]
    stored = [part[1] for part in parts if isinstance(part, tuple)]
    sizes = [int(re.search(rb"RFC822.SIZE (\d+)", part[0])[1]) for part in parts if isinstance(part, tuple)]
    assert sizes == [len(each) for each in stored]
    client.logout()
    return stored


# Postfix rewrites headers on the way, so for a peer this door proves nothing.
STRANGERS = pytest.param("smtp", marks=pytest.mark.ours)
BACK = [by_pop3, pytest.param(by_imap, marks=pytest.mark.needs("imap"))]


@pytest.fixture(scope="module", params=[STRANGERS, "lmtp", pytest.param("append", marks=pytest.mark.needs("imap"))])
def door(request, server, messages):
    send(server, request.param, messages)
    if server.peer:
        eventually("all delivered", lambda: len(by_pop3(server, user(DOORS[request.param][-1]))) ==
                   len(list(dealt(messages, request.param).values())[-1]), 300, 1)  # fmt: skip
    return request.param


@pytest.mark.parametrize("back", BACK)
def test_the_corpus_comes_back_byte_for_byte(server, messages, door, back):
    for name, sent in dealt(messages, door).items():
        Sent(sent).take_all(back(server, name))


@pytest.mark.ours
def test_the_corpus_by_many_connections_at_once(server, messages):
    """Twenty connections, a new one for every few messages, all to one account."""
    to = user(0)
    before = len(by_pop3(server, to))
    part = messages[:400]
    left, lock = [part[at : at + 4] for at in range(0, len(part), 4)], threading.Lock()

    def work():
        while True:
            with lock:
                if not left:
                    return
                some = left.pop()
            send_ahead(server, "smtp", to, some)

    with ThreadPoolExecutor(20) as pool:
        for each in [pool.submit(work) for _ in range(20)]:
            each.result()
    end = before + len(part)
    stored = eventually("all", lambda: found if len(found := by_pop3(server, to)) == end else None, 120, 1)
    Sent(part).take_all(stored[before:])
