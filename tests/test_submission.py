"""What a program asks for when it hands in mail: the stream it belongs to, when it goes and how urgent it is."""

import json
import re
import time

import pytest

from host import Host
from mail import message
from postroom import eventually
from test_outbound import mailbox, queue, start, submit

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

FLOOD = 2000


class Slow(Host):
    """Takes ten milliseconds for each recipient, and notes when it took what."""

    def __init__(self):
        super().__init__()
        self.times: list[tuple[float, list[str]]] = []

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "RCPT":
            time.sleep(0.01)
        return super().answer(verb, line)

    def take(self, sender: str, recipients: list[str], body: bytes) -> None:
        super().take(sender, recipients, body)
        self.times.append((time.monotonic(), recipients))

    def count(self) -> int:
        return sum(len(recipients) for _, recipients in self.times)


def test_a_flood_of_marketing_does_not_hold_up_what_somebody_waits_for(make_server):
    with Slow() as host:
        server = start(make_server, host, "out.test")
        news, shop = server.user(), server.user()
        server.cli("account", "change", news, "--stream", "marketing")
        made = json.loads(server.cli("credential", "add", shop, "shop", "--stream", "transactional", "--json"))
        listed = {each["address"]: each["stream"] for each in json.loads(server.cli("account", "list", "--json"))}
        assert (listed[news], listed[shop]) == ("marketing", "mail")
        assert re.search(f"{news} .*sends marketing", server.cli("account", "list"))
        assert "sends transactional" in server.cli("credential", "list", shop)

        for n in range(0, FLOOD, 200):
            submit(server, news, [f"r{n + i}@out.test" for i in range(200)], message(f"news {n}"))
        assert {each["stream"] for each in queue(server)} == {"marketing"}
        eventually("the flood flows", lambda: host.count() > 0)
        with server.smtp("submission") as client:
            client.starttls(context=server.tls())
            client.login(shop, made["password"])
            client.sendmail(shop, "ann@out.test", message("your code"))
            sent = time.monotonic()
        arrived = eventually("the code", lambda: [t for t, to in host.times if to == ["ann@out.test"]])
        before = sum(len(to) for t, to in host.times if t <= arrived[0])
        print(f"after {arrived[0] - sent:.3f} s, with {before} of {FLOOD} sent")
        # A connection is free after the transaction at hand, of a hundred recipients. The flood takes longer.
        assert arrived[0] - sent < 3 and before < FLOOD * 3 / 4


def test_a_mail_waits_here_until_it_is_to_leave(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, other = server.user(), server.user()
        with server.connect("submission") as smtp:
            smtp.reply()
            offers = smtp.ask("EHLO client.test", "250")
            assert re.search(r"FUTURERELEASE \d+ \d{4}-\d\d-\d\dT", offers) and "DELIVERBY 60" in offers and "MT-PRIORITY" in offers
        with server.connect("smtp") as smtp:
            smtp.reply()
            assert "FUTURERELEASE" not in smtp.ask("EHLO client.test", "250")
            # Anybody can say that his mail is urgent.
            assert "2.3.6" in smtp.ask("MAIL FROM:<a@elsewhere.test> MT-PRIORITY=9", "250")
        submit(server, user, ["ann@out.test", other], message("later"), ["HOLDFOR=86400"])
        (held,) = queue(server)
        assert held["release"] and [each["state"] for each in held["recipients"]] == ["waiting"] * 2
        assert "for the time it is to leave" in server.cli("queue", "list")
        assert f"queue retry {held['id']} sends it now" in server.cli("queue", "why", "ann@out.test")
        time.sleep(1)
        assert host.taken == []
        server.cli("queue", "retry", held["id"])
        host.has()
        (copy,) = mailbox(server, other)
        assert b"Subject: later" in copy
        # And by the clock.
        submit(server, user, ["bob@out.test", other], message("soon"), ["HOLDFOR=2"])
        began = time.monotonic()
        host.has(2)
        assert 1 < time.monotonic() - began < 10
        mailbox(server, other, 2)
        eventually("nothing is left", lambda: queue(server) == [])
        server.verify()


def test_marketing_is_quiet_at_its_hours(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        server.cli("account", "change", user, "--stream", "marketing")
        now = time.gmtime()
        begin, end = f"{now.tm_hour:02}:{now.tm_min:02}", f"{(now.tm_hour + 2) % 24:02}:{now.tm_min:02}"
        server.cli("queue", "quiet", "marketing", "--from", begin, "--to", end)
        assert f"marketing: {begin} to {end} (+00:00)" in server.cli("queue", "quiet")
        submit(server, user, "ann@out.test", message("news"))
        assert "quiet hours" in server.cli("queue", "why", "ann@out.test")
        time.sleep(1)
        assert host.taken == []
        server.cli("queue", "quiet", "marketing", "--none")
        host.has()
        assert "No stream" in server.cli("queue", "quiet")
