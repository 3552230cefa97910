"""What a program asks for when it hands in mail: the stream it belongs to, when it goes and how urgent it is."""

import base64
import json
import random
import re
import time

import pytest

from host import Host
from mail import message
from postroom import PASSWORD, eventually
from test_outbound import mailbox, queue, start, submit

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

# Accounts that send it, and to how many each: as many as one may write to within a day, in messages to so many.
BULK, DAILY, EACH = 40, 2000, 1000
FLOOD = BULK * DAILY
# Recipients of a transaction.
MOST = 100


class Slow(Host):
    """Takes ten milliseconds for each recipient."""

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "RCPT":
            time.sleep(0.01)
        return super().answer(verb, line)

    def connections(self) -> int:
        """How many there were."""
        return sum(line.startswith("EHLO") for line in self.said)

    def attempts(self, since: int, until: int | None = None) -> list[str]:
        """Recipients of the commands from one place in what was said to another."""
        return [line for line in self.said[since:until] if line.startswith("RCPT")]

    def attempt(self, to: str, since: int) -> int | None:
        """Where in what was said its first attempt is."""
        return next((n for n, line in enumerate(self.said[since:], since) if f"<{to}>" in line), None)


def flood(server, senders: list[str]) -> None:
    """FLOOD deliveries of marketing, which wait until the stream goes on."""
    server.cli("queue", "hold", "--stream", "marketing")
    for sender in senders:
        with server.connect("submission") as smtp:
            smtp.reply()
            smtp.ask("EHLO client.test", "250")
            smtp.ask("AUTH PLAIN " + base64.b64encode(f"\0{sender}\0{PASSWORD}".encode()).decode(), "235")
            for n in range(0, DAILY, EACH):
                to = b"".join(b"RCPT TO:<r%d-%s>\r\n" % (n + i, sender.encode()) for i in range(EACH))
                to = to.replace(b"@example.test", b"@out.test")
                smtp.raw(b"MAIL FROM:<%s>\r\n%sDATA\r\n" % (sender.encode(), to))
                for code in ["250"] * (1 + EACH) + ["354"]:
                    smtp.expect(code)
                smtp.socket.sendall(message(f"news {n}") + b".\r\n")
                smtp.expect("250")


def test_a_flood_of_marketing_does_not_hold_up_what_somebody_waits_for(make_server):
    """Counted in attempts, as a busy machine is slow in all it does."""
    chance, between = random.Random(7), []
    with Slow() as host:
        server = make_server(extra=host.route("out.test"), accounts=BULK + 1)
        server.start()
        shop, *senders = [server.user() for _ in range(BULK + 1)]
        for sender in senders:
            server.cli("account", "change", sender, "--stream", "marketing")
        news = senders[0]
        made = json.loads(server.cli("credential", "add", shop, "shop", "--stream", "transactional", "--json"))
        listed = {each["address"]: each["stream"] for each in json.loads(server.cli("account", "list", "--json"))}
        assert (listed[news], listed[shop]) == ("marketing", "mail")
        assert re.search(f"{news} .*sends marketing", server.cli("account", "list"))
        assert "sends transactional" in server.cli("credential", "list", shop)

        began = time.monotonic()
        flood(server, senders)
        print(f"{FLOOD} handed in within {time.monotonic() - began:.1f} s")
        assert {each["stream"] for each in queue(server)} == {"marketing"} and not host.said
        server.cli("queue", "resume", "--stream", "marketing")
        eventually("the flood flows", lambda: len(host.attempts(0)) > 10 * MOST)
        with server.smtp("submission") as client:
            client.starttls(context=server.tls())
            client.login(shop, made["password"])
            for n in range(20):
                time.sleep(chance.uniform(0, 0.2))
                to = f"ann{n}@out.test"
                client.sendmail(shop, to, message("your code"))
                # Its first attempt may be on its way before we hear that it is accepted.
                accepted = len(host.said)
                at = eventually("the code", lambda: host.attempt(to, 0))  # noqa: B023
                between.append(len(host.attempts(accepted, at)))
        sent = len(host.attempts(0))
        connections = host.connections()
        print(f"attempts of marketing before each: {between}; {sent} of {FLOOD} in all, on {connections} connections")
        # At the worst all connections have just begun a transaction.
        assert sent < FLOOD and max(between) < connections * MOST


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
