"""Who is told of mail that leaves: signed requests, checked by the library that receivers use, over failures and crashes."""

import http.server
import json
import re
import ssl
import threading
import urllib.request

import pytest
from standardwebhooks import Webhook

from host import Background, Host
from mail import message
from postroom import eventually, free_address, run
from test_events import Picky, events, several
from test_outbound import start, submit

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

PORT = 20443
OURS = '[webhooks]\nnetworks = ["127.0.0.0/8"]\n'


class Sink(Background, http.server.ThreadingHTTPServer):
    """Takes what it is told, or answers as `answer` says; keeps everything in the order in which it came."""

    def __init__(self, directory=None):
        self.address = free_address()
        self.heard: list[tuple[int, dict, bytes]] = []
        self.lock = threading.Lock()
        super().__init__((self.address, PORT), Request)
        scheme = "http"
        if directory:
            scheme = "https"
            self.certificate, key = directory / "sink.pem", directory / "sink.key"
            run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=sink", "-addext", f"subjectAltName=IP:{self.address}",
                "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", self.certificate)  # fmt: skip
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, key)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{scheme}://{self.address}:{PORT}/hook?a=b"
        self.begin()

    def answer(self, body: dict, earlier: int) -> int:
        return 204

    def take(self, headers: dict, raw: bytes) -> int:
        with self.lock:
            earlier = sum(1 for _, before, _ in self.heard if before["webhook-id"] == headers["webhook-id"])
            status = self.answer(json.loads(raw), earlier)
            self.heard.append((status, headers, raw))
            return status

    def taken(self) -> list[tuple[str, dict]]:
        """Id and body of each that was taken, each once."""
        with self.lock:
            return list({h["webhook-id"]: (h["webhook-id"], json.loads(raw))
                         for status, h, raw in self.heard if status < 300}.values())  # fmt: skip

    def has(self, count: int):
        return eventually(f"{count} events taken", lambda: (t := self.taken()) and len(t) >= count and t, 60)


class Request(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.take({name.lower(): value for name, value in self.headers.items()}, raw)
        self.send_response(status)
        if status in (301, 302, 307, 308):
            self.send_header("Location", f"{self.server.url}&again")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def add(server, url: str, *options: str) -> str:
    """The key."""
    return json.loads(server.cli("webhook", "add", url, *options, "--json"))["key"]


def listed(server) -> dict:
    (one,) = json.loads(server.cli("webhook", "list", "--json"))
    return one


def settled(server, **wanted):
    """The webhook as it is listed once it is so."""
    def so():
        one = listed(server)
        return one if all(one[key] == value for key, value in wanted.items()) else None

    return eventually(f"a webhook with {wanted}", so, 60)


def figures(server, kind: str) -> dict[str, int]:
    """What is counted of webhooks or telemetry, by its name without `postroom_webhook_`."""
    with urllib.request.urlopen(f"http://{server.address}:{server.ports['http']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line.startswith(f"postroom_{kind}_"))
    return {name.removeprefix(f"postroom_{kind}_"): int(value) for name, _, value in pairs}


def by_recipient(pairs) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for identity, recipient in pairs:
        found.setdefault(recipient, []).append(identity)
    return found


class Moody(Sink):
    """Does not take the first try of what it hears of ann, but that mail for her is queued."""

    def answer(self, body: dict, earlier: int) -> int:
        takes = earlier > 0 or body["data"].get("recipient") != "ann@out.test" or body["type"] == "delivery.queued"
        return 200 if takes else 400


def test_each_event_is_told_signed_and_in_the_order_of_its_recipient(make_server, tmp_path):
    with Picky() as host, Moody(tmp_path) as sink:
        extra = host.route("out.test") + OURS + f'ca_file = "{sink.certificate}"\n'
        server = start(make_server, host, "out.test", extra=extra)
        user = server.user()
        submit(server, user, "early@out.test", message("before"))
        several(server, 1)
        with pytest.raises(Exception, match="there is no organisation nobody"):
            add(server, sink.url, "--organisation", "nobody")
        key = add(server, sink.url, "--organisation", "main")
        assert listed(server)["organisation"] == "main" and "of main" in server.cli("webhook", "list")
        for n in range(4):
            submit(server, user, ["ann@out.test", "bob@out.test", f"joe{n}@out.test"], message(f"told {n}"))
        several(server, 13)
        told = [one for one in events(server) if one["recipient"] != "early@out.test"]
        taken = sink.has(24)
        record = settled(server, taken=24, waiting=0, behind=0)
        counted = figures(server, "webhook")
        requests = list(sink.heard)
    assert re.fullmatch("whsec_[A-Za-z0-9+/]{43}=", key)
    # Who checks by the library finds them good, and nobody else's.
    for _, headers, raw in requests:
        assert headers["content-type"] == "application/json"
        assert Webhook(key).verify(raw, headers) == json.loads(raw)
        with pytest.raises(Exception, match="[Nn]o matching signature"):
            Webhook(key).verify(raw + b" ", headers)
    # The same events with the same ids; a failure of ann's holds up ann's only.
    wanted = by_recipient((one["id"], one["recipient"]) for one in told)
    assert by_recipient((identity, body["data"]["recipient"]) for identity, body in taken) == wanted
    tries = by_recipient((h["webhook-id"], json.loads(raw)["data"]["recipient"]) for _, h, raw in requests)
    queued = {one["id"] for one in told if one["type"] == "delivery.queued"}
    assert len(queued) == 12
    assert tries["ann@out.test"] == [i for i in wanted["ann@out.test"] for _ in range(1 if i in queued else 2)]
    assert {recipient: n for recipient, n in tries.items() if recipient != "ann@out.test"} == \
        {recipient: n for recipient, n in wanted.items() if recipient != "ann@out.test"}  # fmt: skip
    last = max(n for n, (_, _, raw) in enumerate(requests) if b"joe" in raw)
    assert last < max(n for n, (_, _, raw) in enumerate(requests) if b"ann@" in raw)
    body = next(body for _, body in taken if body["type"] == "delivery.bounced")
    one = next(one for one in told if one["id"] == body["data"]["id"])
    assert (body["type"], body["timestamp"]) == ("delivery.bounced", one["time"])
    assert body["data"] == {name: value for name, value in one.items() if name not in ("type", "time", "cursor")}
    assert counted == {f'{name}{{webhook="1"}}': value for name, value in {
        "delivered_total": 24, "failed_total": 0, "lost_total": 0, "waiting": 0, "on": 1, "lag_seconds": 0,
        "failing_seconds": 0}.items()}  # fmt: skip
    assert (record["state"], record["given_up"], record["lost"], record["why"]) == ("on", 0, 0, "")


def test_nothing_is_lost_over_failures_and_kills(make_server):
    class Sick(Sink):
        well = False

        def answer(self, body: dict, earlier: int) -> int:
            return 204 if self.well else 503

    with Host() as host, Sick() as sink:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + OURS)
        user = server.user()
        add(server, sink.url)
        for n in range(6):
            submit(server, user, [f"u{m}@out.test" for m in range(5)], message(f"sick {n}"))
        eventually("some tries", lambda: len(sink.heard) >= 5)
        record = eventually("it is noted", lambda: (one := listed(server))["failing_since"] and one)
        eventually("it is measured", lambda: (f := figures(server, "webhook"))['failing_seconds{webhook="1"}'] > 0
                   and f['lag_seconds{webhook="1"}'] > 0 and f['waiting{webhook="1"}'] > 0)  # fmt: skip
        server.kill()
        server.start()
        sink.well = True
        sink.has(3)
        # Once more while they go out.
        server.kill()
        server.start()
        several(server, 30)
        told = events(server)
        taken = sink.has(60)
        settled(server, waiting=0, behind=0, failing_since=None)
    assert "503" in record["why"]
    wanted = by_recipient((one["id"], one["recipient"]) for one in told)
    assert by_recipient((identity, body["data"]["recipient"]) for identity, body in taken) == wanted


def test_the_administrator_steers_it(make_server):
    class Gone(Sink):
        gone = False

        def answer(self, body: dict, earlier: int) -> int:
            return 410 if self.gone else 200

    with Picky() as host, Gone() as sink:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + OURS)
        user = server.user()

        sent = []

        def send(name: str):
            sent.append(name)
            submit(server, user, [f"{name}@out.test", "bob@out.test"], message(name))

        first = add(server, sink.url, "--type", "delivery.bounced,report")
        assert "took it" in server.cli("webhook", "test", "1")
        send("one")
        (_, test), (bounced, _) = sink.has(2)
        assert test["type"] == "webhook.test"
        # It waits, and goes on where it stood.
        server.cli("webhook", "pause", "1")
        settled(server, state="paused", taken=1)
        send("two")
        several(server, 4)
        assert len(sink.taken()) == 2
        server.cli("webhook", "resume", "1")
        sink.has(3)
        # A new key; the old one is good for a while.
        second = json.loads(server.cli("webhook", "rotate", "1", "--json"))["key"]

        def signed_twice():
            send("three")
            return next((one for one in sink.heard if " " in one[1]["webhook-signature"]), None)

        _, headers, raw = eventually("two signatures", signed_twice, every=0.5)
        assert Webhook(first).verify(raw, headers) == Webhook(second).verify(raw, headers) == json.loads(raw)
        # Again, with the same ids.
        every = len(sent)
        several(server, 2 * every)
        settled(server, taken=every, behind=0)
        before, count = {identity for identity, _ in sink.taken()}, len(sink.heard)
        server.cli("webhook", "replay", "1", "--since", "1h")
        eventually("all of it again", lambda: len(sink.heard) >= count + every)
        settled(server, taken=2 * every, behind=0)
        assert {identity for identity, _ in sink.taken()} == before and bounced in before
        # Who says that it is gone is not told any more, until somebody says otherwise.
        sink.gone = True
        send("four")
        disabled = settled(server, state="disabled")
        count = len(sink.heard)
        send("five")
        several(server, 2 * every + 4)
        assert len(sink.heard) == count and "410" in disabled["why"] and "410" in server.cli("webhook", "list")
        sink.gone = False
        server.cli("webhook", "resume", "1")
        sink.has(1 + every + 2)
        for arguments, words in [(["pause", "7"], "there is no webhook 7"), (["replay", "1", "--since", "soon"], "a time is"),
                                 (["add", sink.url, "--type", "opened"], "an event is one of")]:  # fmt: skip
            with pytest.raises(Exception, match=words):
                server.cli("webhook", *arguments)
        server.cli("webhook", "remove", "1")
        assert "no webhooks" in server.cli("webhook", "list")
    assert all(json.loads(raw)["type"] != "delivery.delivered" for _, _, raw in sink.heard)


def test_no_webhook_leads_into_the_house_by_itself(make_server):
    class Elsewhere(Sink):
        def answer(self, body: dict, earlier: int) -> int:
            return 307

    with Elsewhere() as sink:
        server = make_server()
        server.start()
        with pytest.raises(Exception, match="is not https://"):
            add(server, sink.url)
        add(server, sink.url.replace("http:", "https:"))
        with pytest.raises(Exception, match="problems were found"):
            server.cli("webhook", "test", "1")
        said = server.cli("webhook", "test", "1", check=False)
        assert "no address that may be connected to" in said and sink.heard == []
        # Where it is allowed: what leads elsewhere is not followed.
        server.config.write_text(server.config.read_text() + OURS)
        server.restart()
        add(server, sink.url)
        assert "answered 307" in server.cli("webhook", "test", "2", check=False)
    assert len(sink.heard) == 1 and events(server) == []
