"""What programs read of mail that leaves: events as JSON lines, asked for and in a file."""

import json
import os
import re
import signal
import subprocess

import pytest

from host import Host
from mail import message
from postroom import BINARY, eventually
from test_outbound import start, submit
from test_receipts import bounce, find

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]


class Picky(Host):
    """Knows everybody but bob."""

    def answer(self, verb: str, line: str) -> str | None:
        return "550 5.1.1 No such user" if verb == "RCPT" and "bob@" in line else super().answer(verb, line)


def events(server, *arguments: str) -> list[dict]:
    return [json.loads(line) for line in server.cli("events", *arguments).splitlines()]


def several(server, count: int) -> list[dict]:
    """What came of mail, without that it was queued."""
    def there():
        found = [one for one in events(server) if one["type"] != "delivery.queued"]
        return found if len(found) >= count else None

    return eventually(f"{count} events", there)


def test_each_outcome_is_an_event(make_server):
    with Picky() as host:
        server = start(make_server, host, "out.test")
        user, sent = server.user(), message("told")
        submit(server, user, ["ann@out.test", "bob@out.test"], sent)
        first = {one["recipient"]: one for one in several(server, 2)}
        (receipt,) = find(server, "ann@out.test")
        server.deliver(user, bounce(sent, user, "ann@out.test"), sender="")
        *_, late = several(server, 3)
        everything = events(server)
        chosen = [events(server, *which) for which in [
            ("--type", "delivery.bounced"), ("--type", "report,delivery.delivered"), ("--type", "delivery.queued"),
            ("--stream", "mail"), ("--stream", "marketing"), ("--since", "1h"),
            ("--since", first["bob@out.test"]["cursor"]),
        ]]  # fmt: skip
        of_main = events(server, "--organisation", "main")
        with pytest.raises(Exception, match="there is no organisation 1; there are: main"):
            events(server, "--organisation", "1")
        with pytest.raises(Exception, match="an event is one of"):
            events(server, "--type", "opened")
        with pytest.raises(Exception, match="or a cursor like 12.3"):
            events(server, "--since", "yesterday")
    assert of_main == everything
    ann, bob = first["ann@out.test"], first["bob@out.test"]
    assert list(ann)[:4] == ["id", "cursor", "type", "time"] and re.fullmatch("evt_[0-9a-f]{32}", ann["id"])
    assert (ann["type"], ann["code"], ann["class"], ann["attempts"], ann["uncertain"]) == ("delivery.delivered", 250, None, 1, 0)
    assert (bob["type"], bob["code"], bob["status"], bob["class"]) == ("delivery.bounced", 550, "5.1.1", "no-such-user")
    assert (ann["sender"], ann["stream"], ann["message"]) == (user, "mail", receipt["id"])
    assert f"Message-ID: <{ann['message_id']}>".encode() in sent
    assert ann["address"].startswith(host.address) and ann["accepted"] <= ann["time"]
    # What came back later names the same mail.
    assert (late["type"], late["recipient"], late["message"]) == ("report.bounced", "ann@out.test", ann["message"])
    assert everything == events_in(everything) and len({one["id"] for one in everything}) == 5
    # That it was queued was told before anything else, of each, with what is known by then.
    queued = everything[:2]
    assert [(one["type"], one["recipient"]) for one in queued] == \
        [("delivery.queued", to) for to in ("ann@out.test", "bob@out.test")]  # fmt: skip
    same = ("sender", "message", "message_id", "stream", "organisation", "accepted")
    assert [queued[0][name] for name in same] == [ann[name] for name in same] and queued[0]["time"] == ann["accepted"]
    assert (queued[0]["attempts"], queued[0]["code"], queued[0]["host"]) == (0, None, None)
    assert chosen == [[bob], [one for one in everything[2:] if one != bob], queued, everything, [], everything,
                      everything[everything.index(bob) + 1:]]  # fmt: skip


def events_in(some: list[dict]) -> list[dict]:
    """By their cursors."""
    return sorted(some, key=lambda one: [int(n) for n in one["cursor"].split(".")])


def test_who_follows_hears_at_once(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        submit(server, user, "before@out.test", message("before"))
        several(server, 1)
        command = [BINARY, "events", "--follow", "--config", server.config]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
            os.set_blocking(follower.stdout.fileno(), False)

            def heard():
                # It begins with what happens after it asked; nothing tells when it did.
                submit(server, user, "now@out.test", message("now"))
                return follower.stdout.readline()

            try:
                line = json.loads(eventually("an event", heard, every=1))
            finally:
                follower.kill()
    assert line["recipient"] == "now@out.test"


def test_the_file_has_every_event_over_a_crash_and_a_rotation(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + '[events]\nfile = "events.jsonl"\n')
        file, user = server.directory / "events.jsonl", server.user()

        def send(count: int, name: str):
            for n in range(count):
                submit(server, user, f"{name}{n}@out.test", message(name))

        def written(count: int, *files):
            def lines():
                found = [line for one in files for line in one.read_text().splitlines()]
                return found if len(found) >= count else None

            return eventually(f"{count} lines", lines)

        send(5, "a")
        written(5, file)
        send(5, "b")
        server.kill()
        # As a crash in the middle of a line leaves it.
        with file.open("a") as out:
            out.write('{"id":"evt_torn')
        server.start()
        send(5, "c")
        several(server, 15)
        everything = [json.loads(line) for line in written(15, file)]
        old = file.with_suffix(".old")
        file.rename(old)
        server.process.send_signal(signal.SIGHUP)
        eventually("a new file", lambda: submit(server, user, "more@out.test", message("more")) or file.exists())
        told = events(server)
        everything = [json.loads(line) for line in written(len(told), old, file)]
    # At least once, in order, each with the id that it has everywhere. (A crash may repeat the last of them.)
    once = {one["id"]: one for one in everything}
    known = {one["id"] for one in told}
    assert [one for one in once.values() if one["id"] in known] == told
    assert all(path.stat().st_mode & 0o7 == 0 for path in (old, file)), "addresses are nobody else's"
