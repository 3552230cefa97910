"""What mail leaves by, and how: sources, pools, and what an administrator changes about them while mail flows."""

import csv
import io
import json
import time

import pytest

from host import Conversation, Host
from mail import message
from postroom import PASSWORD, Failed, eventually

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

A, B = "127.0.0.2", "127.0.0.3"


class Visited(Host):
    """A host that knows who came: the address and the name of each mail."""

    def __init__(self, **answers: str):
        self.visitors: list[tuple[str, str]] = []
        super().__init__(**answers)
        self.RequestHandlerClass = Noted

    def by(self, address: str) -> int:
        return sum(visitor[0] == address for visitor in self.visitors)


class Noted(Conversation):
    def say(self, verb: str, good: str, line: str = "") -> bool:
        if verb == "EHLO":
            self.name = self.server.said[-1].removeprefix("EHLO ")
        if verb == "MAIL":
            self.server.visitors.append((self.client_address[0], self.name))
        return super().say(verb, good, line)


def submit(server, sender: str, to: str | list[str]) -> None:
    with server.smtp("submission") as client:
        client.starttls(context=server.tls())
        client.login(sender, PASSWORD)
        client.sendmail(sender, to, message("hello", "Hello.\r\n"))


def refused(server, *arguments: str) -> str:
    with pytest.raises(Failed) as failure:
        server.cli(*arguments)
    return str(failure.value)


def exported(server, what: str, *word: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(server.cli(what, "export", *word, "--csv"))))


def test_mail_leaves_by_the_sources_of_a_pool_and_a_change_counts_at_once(make_server):
    with Visited() as host:
        server = make_server(extra=host.route("out.test"))
        server.cli("source", "add", "a", "--address", A, "--ehlo", "a.example.test")
        server.start()
        user = server.user()
        submit(server, user, "x@out.test")
        host.has(1)
        name, address = host.visitors[0][1], host.visitors[0][0]
        assert name == "mx.example.test" and address not in (A, B)
        server.cli("source", "add", "b", "--address", B, "--ehlo", "b.example.test")
        server.cli("pool", "add", "people", "a", "b:3", "--stream", "mail")
        for n in range(24):
            submit(server, user, f"x{n}@out.test")
        host.has(25)
        assert set(host.visitors[1:]) == {(A, "a.example.test"), (B, "b.example.test")}
        assert 0 < host.by(A) < host.by(B)
        server.cli("pool", "change", "people", "a")
        submit(server, user, "y@out.test")
        host.has(26)
        assert host.visitors[-1] == (A, "a.example.test")
        # As it was: also after a restart.
        server.restart()
        submit(server, user, "z@out.test")
        host.has(27)
        assert host.visitors[-1] == (A, "a.example.test")
        server.cli("pool", "remove", "people")
        submit(server, user, "z@out.test")
        host.has(28)
        assert host.visitors[-1] == (address, name)


def test_the_administrator_is_told_what_is_wrong(make_server):
    server = make_server()
    server.start()
    assert "203.0.113.9 is no address of this machine" in refused(server, "source", "add", "a", "--address", "203.0.113.9")
    assert "one address of each family" in refused(server, "source", "add", "a", "--address", A, "--address", B)
    assert "no host name" in refused(server, "source", "add", "a", "--ehlo", "localhost")
    server.cli("source", "add", "a", "--address", "203.0.113.9", "--anyway")
    assert "there is no source b; there are: a, default" in refused(server, "pool", "add", "p", "b")
    assert '"news" is no stream' in refused(server, "pool", "add", "p", "a", "--stream", "news")
    server.cli("pool", "add", "p", "a:2", "default", "--stream", "marketing", "--stream", "mail")
    assert "served by the pool p" in refused(server, "pool", "add", "q", "a", "--stream", "mail")
    assert "a is in the pool p" in refused(server, "source", "remove", "a")
    assert json.loads(server.cli("pool", "list", "--json")) == [
        {"name": "p", "members": [{"source": "default", "weight": 1}, {"source": "a", "weight": 2}],
         "streams": ["mail", "marketing"], "organisation": None}]  # fmt: skip
    server.cli("pool", "change", "p", "--no-stream")
    listed = {each["name"]: each for each in json.loads(server.cli("source", "list", "--json"))}
    assert listed["a"] == {"name": "a", "addresses": ["203.0.113.9"], "ehlo": "mx.example.test",
                           "pools": [{"pool": "p", "weight": 2}]}  # fmt: skip
    assert listed["default"]["addresses"] == [] and "the system's choice" in server.cli("source", "list")
    found = refused(server, "source", "list", "--check")
    assert "problems were found" in found and "203.0.113.9 is no address of this machine" in server.cli(
        "source", "list", "--check", check=False)  # fmt: skip
    # Trap 13: what is printed names the address, and what is published is asked for it.
    assert '"v=spf1 mx ip4:203.0.113.9 -all"' in server.cli("domain", "dns", "example.test")
    assert "SPF" in server.cli("source", "list", "--check", check=False)
    assert "there are: connections, " in refused(server, "policy", "set", "conections=5")
    assert "is no rate" in refused(server, "policy", "set", "rate=many")
    assert "there is no source x" in refused(server, "policy", "set", "--source", "x", "idle=5")
    assert "no such figure" in refused(server, "policy", "unset", "--site", "google")
    # Each list is searched by a word, and given out as a table.
    server.cli("pool", "change", "p", "--stream", "mail")
    server.cli("policy", "set", "--source", "a", "--site", "google", "connections=3")
    server.cli("policy", "set", "--site", "yahoo", "messages=7")
    for what, word, names in [("source", "DEF", ["default"]), ("pool", "p", ["p"]), ("source", "x", []), ("pool", "x", [])]:
        assert [each["name"] for each in json.loads(server.cli(what, "list", word, "--json"))] == names
    assert "no such source" in server.cli("source", "list", "x") and "no such pool" in server.cli("pool", "list", "x")
    assert [each["key"] for each in json.loads(server.cli("policy", "list", "Goog", "--json"))] == ["connections"]
    assert [each["key"] for each in json.loads(server.cli("policy", "list", "a", "--json"))] == ["messages", "connections"]
    assert exported(server, "source", "a") == [
        {"name": "a", "addresses": "203.0.113.9", "ehlo": "mx.example.test", "pools": "p:2"},
        {"name": "default", "addresses": "", "ehlo": "mx.example.test", "pools": "p:1"}]  # fmt: skip
    assert exported(server, "pool") == [{"name": "p", "members": "default:1 a:2", "streams": "mail", "organisation": ""}]
    assert exported(server, "policy", "yahoo") == [
        {"source": "", "site": "yahoo", "organisation": "", "key": "messages", "value": "7"}]  # fmt: skip
    lines = [json.loads(line) for line in server.cli("source", "export").splitlines()]
    assert lines == json.loads(server.cli("source", "list", "--json"))
    server.cli("policy", "unset", "--source", "a", "--site", "google")
    server.cli("pool", "remove", "p")
    server.cli("source", "remove", "a")
    assert eventually("no source", lambda: len(json.loads(server.cli("source", "list", "--json"))) == 1)


def test_figures_of_the_operators_count_at_once_and_can_be_seen(make_server):
    with Visited() as host:
        server = make_server(extra=host.route("out.test"))
        server.start()
        user = server.user()
        server.cli("policy", "set", "--site", host.address, "messages=1", "recipients=2")
        for n in range(3):
            submit(server, user, [f"a{n}@out.test", f"b{n}@out.test", f"c{n}@out.test"])
        host.has(6)
        assert [len(recipients) for _, recipients, _ in host.taken].count(2) == 3
        assert sum(said.startswith("EHLO") for said in host.said) >= 6, "a mail each"
        sites = json.loads(server.cli("site", "list", "--json"))
        assert [(site["site"], site["source"]) for site in sites] == [(host.address, "default")]
        assert json.loads(server.cli("site", "export", host.address[:3])) == sites[0] and server.cli("site", "export", "x") == ""
        (row,) = exported(server, "site")
        assert (row["site"], row["source"]) == (host.address, "default") and "messages=1" in row["limits"]
        assert "No such site" in server.cli("site", "list", "x")
        assert sites[0]["limits"]["messages"] == "1" and "messages=1 recipients=2" in server.cli("site", "show", host.address)
        assert "begins with: connections=5 " in server.cli("site", "show", "google")
        assert json.loads(server.cli("policy", "list", "--json")) == [
            {"source": None, "site": host.address, "organisation": None, "key": "messages", "value": "1"},
            {"source": None, "site": host.address, "organisation": None, "key": "recipients", "value": "2"}]  # fmt: skip
        server.cli("policy", "unset", "--site", host.address)
        submit(server, user, [f"a{n}@out.test" for n in range(3)])
        host.has(7)
        assert len(host.taken[-1][1]) == 3


def test_what_is_held_waits_over_a_restart_and_why_says_so(make_server):
    with Visited() as host:
        server = make_server(extra=host.route("out.test", "other.test"))
        server.start()
        user = server.user()
        (own,) = json.loads(server.cli("organisation", "list", "--json"))
        held = {"domain": "out.test", "stream": "mail", "source": "default", "site": host.address, "organisation": own["name"]}
        for n, (kind, name) in enumerate(held.items()):
            server.cli("queue", "hold", f"--{kind}", name)
            submit(server, user, f"{kind}@out.test")
            if kind == "domain":
                submit(server, user, "y@other.test")
                host.has(1)

            def reason(kind=kind):
                why = server.cli("queue", "why", f"{kind}@out.test")
                return why if "administrator of this server held" in why else None

            said = eventually("a reason", reason)
            assert name in said, said
            server.restart()
            assert name in eventually("the same reason", reason)
            assert len(host.taken) == n + 1
            assert "neither held nor drained" in refused(server, "queue", "resume", "--domain", "nowhere.test")
            server.cli("queue", "resume", f"--{kind}", name)
            host.has(n + 2)
        assert json.loads(server.cli("queue", "holds", "--json")) == []
        assert server.cli("queue", "hold", check=False) == ""
        assert "cannot be used with" in refused(server, "queue", "hold", "--domain", "out.test", "--stream", "mail")
        assert f"the stream mail of {own['name']}" in server.cli("queue", "hold", "--stream", "mail", "--organisation", own["name"])


def test_a_new_source_sends_little_and_the_rest_waits(make_server):
    with Visited() as host:
        server = make_server(extra=host.route("out.test"))
        server.start()
        user = server.user()
        assert "has no plan" in server.cli("source", "warmup", "default")
        assert "is no plan" in refused(server, "source", "warmup", "default", "--days", "many")
        assert "there is no source x" in refused(server, "source", "warmup", "x", "--standard")
        within_an_hour()
        server.cli("source", "warmup", "default", "--days", "30,50")
        assert "was not stopped at google" in refused(server, "source", "warmup", "default", "--resume", "Google")
        assert "new, day 1" in server.cli("source", "list")
        for n in range(5):
            submit(server, user, f"x{n}@out.test")
        host.has(3)
        eventually("it is counted", lambda: plan(server)["sites"] == {host.address: 3})
        server.restart()
        submit(server, user, "y@out.test")
        said = eventually("a reason", lambda: "is new, and has delivered" in server.cli("queue", "why", "y@out.test"))
        assert said and len(host.taken) == 3 and plan(server)["delivered_today"] == 3
        server.cli("source", "warmup", "default", "--standard")
        assert {cap["site"]: cap["today"] for cap in plan(server)["caps"]}["google"] == 20
        server.cli("source", "warmup", "default", "--stop")
        host.has(6)


def within_an_hour():
    """The next one does not begin at once: what a new source may send goes by the hour."""
    left = 3600 - time.time() % 3600
    time.sleep(left if left < 60 else 0)


def shop(server) -> str:
    """Somebody of a second organisation, Shop."""
    server.cli("organisation", "add", "Shop")
    server.cli("domain", "add", "shop.test", "--organisation", "Shop")
    server.cli("account", "add", "ann@shop.test", "--password-stdin", stdin=PASSWORD)
    return "ann@shop.test"


def test_an_organisation_at_its_bound_waits_and_no_other_does(make_server):
    with Visited() as host:
        server = make_server(extra=host.route("out.test"))
        server.start()
        user, ann = server.user(), shop(server)
        bound = ["--organisation", "Shop", "--site", host.address]
        assert "an organisation may have: connections, rate" in refused(server, "policy", "set", *bound, "idle=5")
        assert "there is no organisation x" in refused(server, "policy", "set", "--organisation", "x", "rate=1/s")
        assert "To " + host.address + " of Shop: rate=1/m" in server.cli("policy", "set", *bound, "rate=1/m")
        for n in range(3):
            submit(server, ann, f"a{n}@out.test")
        for n in range(3):
            submit(server, user, f"b{n}@out.test")
        host.has(4)
        said = eventually("a reason", lambda: "Shop has sent there as much" in server.cli("queue", "why", "a2@out.test"))
        assert said and sorted(sender for sender, _, _ in host.taken) == [ann, user, user, user]
        assert "of Shop at most: rate=1/m" in server.cli("site", "show", host.address)
        assert json.loads(server.cli("policy", "list", "--json")) == [
            {"source": None, "site": host.address, "organisation": "Shop", "key": "rate", "value": "1/m"}]  # fmt: skip
        # What is taken back counts at once.
        server.cli("policy", "unset", *bound)
        host.has(6)


def test_the_pool_of_an_organisation_is_used_by_no_other(make_server):
    with Visited() as host:
        server = make_server(extra=host.route("out.test"))
        server.start()
        user, ann = server.user(), shop(server)
        for name, address in [("a", A), ("b", B)]:
            server.cli("source", "add", name, "--address", address, "--ehlo", f"{name}.example.test")
        server.cli("pool", "add", "all", "a", "--stream", "mail")
        server.cli("pool", "add", "own", "b", "--stream", "mail", "--organisation", "Shop")
        assert "own              b:1  for mail of Shop" in server.cli("pool", "list")
        assert "served by the pool all" in refused(server, "pool", "change", "own", "--organisation", "")
        submit(server, user, "x@out.test")
        host.has(1)
        submit(server, ann, "y@out.test")
        host.has(2)
        assert [address for address, _ in host.visitors] == [A, B]
        # Its sources stopped, its mail waits; that of the others does not.
        server.cli("queue", "hold", "--source", "b")
        submit(server, ann, "z@out.test")
        submit(server, user, "x@out.test")
        host.has(3)
        eventually("a reason", lambda: "held" in server.cli("queue", "why", "z@out.test"))
        assert "by the pool own of Shop" in server.cli("queue", "why", "z@out.test") and host.by(B) == 1
        server.cli("pool", "remove", "own")
        host.has(4)
        assert (host.by(A), host.by(B)) == (3, 1)


def plan(server) -> dict:
    return json.loads(server.cli("source", "warmup", "default", "--json"))
