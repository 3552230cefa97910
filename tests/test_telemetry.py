"""Traces of mail that leaves, as a collector of OpenTelemetry gets them: parsed strictly by the protocol's own schema, and taken by a
real collector."""

import base64
import gzip
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from host import Background, Host
from mail import message
from postroom import BINARY, eventually, free_address
from test_outbound import queue, start, submit
from test_receipts import bounce
from test_webhooks import figures

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

PORT = 20318


class Collector(Background, http.server.ThreadingHTTPServer):
    """Takes spans, or answers as `answer` says; keeps those that it took."""

    def __init__(self, address: str | None = None):
        self.address = address or free_address()
        self.spans: list[dict] = []
        self.resources: list[dict] = []
        self.requests: list[dict] = []
        self.lock = threading.Lock()
        super().__init__((self.address, PORT), Request)
        self.begin()

    def answer(self, earlier: int) -> tuple[int, dict, bytes]:
        return 200, {}, b""

    def take(self, headers: dict, raw: bytes) -> tuple[int, dict, bytes]:
        with self.lock:
            status, fields, body = self.answer(len(self.requests))
            self.requests.append(headers)
            if status == 200:
                self.keep(parsed(headers, raw))
            return status, fields, body

    def keep(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append(facts(resource.resource.attributes))
            for scope in resource.scope_spans:
                assert scope.scope.name == "postroom.outbox"
                self.spans.extend(plain(span) for span in scope.spans)

    def once(self) -> list[dict]:
        """What was told, each once: what is told again is the same."""
        with self.lock:
            found: dict[bytes, dict] = {}
            for span in self.spans:
                assert found.setdefault(span["id"], span) == span
            return list(found.values())

    def has(self, count: int) -> list[dict]:
        return eventually(f"{count} spans", lambda: (all := self.once()) and len(all) >= count and all, 60)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{PORT}/v1/traces"

    def config(self, **more) -> str:
        """With further lines, whose values are as the file has them."""
        lines = "".join(f"{key} = {value}\n" for key, value in {"endpoint": f'"{self.url}"', **more}.items())
        return f"[telemetry]\n{lines}"


class Request(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, fields, body = self.server.take({**headers, "path": self.path}, raw)
        self.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def parsed(headers: dict, raw: bytes) -> ExportTraceServiceRequest:
    """By the schema, and nothing that it does not know. Ids are in hexadecimal digits in OTLP, and base64 in protobuf's JSON."""
    if headers["content-type"] == "application/x-protobuf":
        plain_ = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
        return ExportTraceServiceRequest.FromString(plain_)
    assert headers["content-type"] == "application/json" and headers["path"] == "/v1/traces"
    request = json.loads(raw)
    for span in (s for r in request["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]):
        for key, octets in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
            if key in span or key != "parentSpanId":
                assert len(span[key]) == 2 * octets and set(span[key]) <= set("0123456789abcdef")
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
        for time_ in ("startTimeUnixNano", "endTimeUnixNano"):
            assert isinstance(span[time_], str) and span[time_].isdecimal()
        for attribute in span["attributes"]:
            assert all(isinstance(value, str) for value in attribute["value"].values())
    return json_format.Parse(json.dumps(request), ExportTraceServiceRequest(), ignore_unknown_fields=False)


def facts(attributes) -> dict:
    names = [a.key for a in attributes]
    assert len(names) == len(set(names))
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def plain(span) -> dict:
    return {"trace": span.trace_id, "id": span.span_id, "parent": span.parent_span_id, "name": span.name, "kind": span.kind,
            "start": span.start_time_unix_nano, "end": span.end_time_unix_nano, "error": span.status.code == 2,
            "steps": [(e.name, e.time_unix_nano) for e in span.events], **facts(span.attributes)}  # fmt: skip


class Fickle(Host):
    """Puts ann off once, and does not know bob."""

    first = True

    def answer(self, verb: str, line: str) -> str | None:
        if verb == "RCPT" and "bob@" in line:
            return "550 5.1.1 No such user"
        if verb == "RCPT" and "ann@" in line and self.first:
            self.first = False
            return "451 4.7.1 Greylisted, later"
        return super().answer(verb, line)


def test_a_mail_is_a_trace_from_its_acceptance_to_its_last_event(make_server):
    with Fickle() as host, Collector() as collector:
        extra = host.route("out.test") + collector.config(headers='{ x-key = "open sesame" }')
        server = start(make_server, host, "out.test", extra=extra)
        user, sent, began = server.user(), message("traced"), time.time_ns()
        submit(server, user, ["ann@out.test", "bob@out.test"], sent)
        collector.has(2)
        # The second attempt is another life's, and so is what comes back.
        server.kill()
        server.start()
        (waiting,) = queue(server)
        server.cli("queue", "retry", waiting["id"])
        collector.has(4)
        server.deliver(user, bounce(sent, user, "ann@out.test"), sender="")
        spans = collector.has(5)
        ended = time.time_ns()
        counted = eventually("it is counted", lambda: (f := figures(server, "telemetry"))["behind"] == 0 and f)
    assert all(request["x-key"] == "open sesame" for request in collector.requests)
    for resource in collector.resources:
        assert resource["service.name"] == "postroom" and resource["service.version"] and resource["host.name"]
    by_event = {}
    for span in spans:
        by_event.setdefault(span.get("postroom.event", "message"), []).append(span)
    assert {event: len(some) for event, some in by_event.items()} == {
        "message": 1, "delivery.deferred": 1, "delivery.bounced": 1, "delivery.delivered": 1, "report.bounced": 1}  # fmt: skip
    (root,), (put_off,), (refused,) = (by_event[k] for k in ("message", "delivery.deferred", "delivery.bounced"))
    (taken,), (late,) = by_event["delivery.delivered"], by_event["report.bounced"]
    # One trace, of one root; an attempt and its steps lie within it, what came later does not.
    assert len({span["trace"] for span in spans}) == 1 and root["parent"] == b"" and root["kind"] == 4
    attempts = [put_off, refused, taken]
    for span in [*attempts, late]:
        assert span["parent"] == root["id"] and span["postroom.message"] == root["postroom.message"] == waiting["id"]
        assert f"Message-ID: <{span['messaging.message.id']}>".encode() in sent
    for span in attempts:
        assert root["start"] <= span["start"] <= span["end"] <= root["end"]
        assert span["kind"] == 3 and span["name"] == "send"
        assert all(span["start"] <= at <= span["end"] for _, at in span["steps"])
        assert (span["network.peer.address"], span["network.peer.port"]) == (host.address, 20025)
        assert span["messaging.destination.name"] == "out.test" and span["postroom.stream"] == "mail"
    assert began - 10**9 <= root["start"] and root["end"] <= late["start"] <= ended + 10**9
    assert put_off["end"] <= taken["start"]
    assert (put_off["postroom.smtp.code"], put_off["postroom.attempts"], put_off["error"]) == (451, 1, True)
    assert (taken["postroom.smtp.code"], taken["postroom.attempts"], taken["error"]) == (250, 2, False)
    assert (refused["postroom.smtp.code"], refused["postroom.smtp.status"], refused["error.type"]) == (550, "5.1.1", "no-such-user")
    assert (put_off["postroom.recipient.number"], taken["postroom.recipient.number"]) == (0, 0)
    assert [name for name, _ in taken["steps"]][-3:] == ["RCPT TO", "DATA", "(end of the mail)"]
    assert (root["messaging.batch.message_count"], root["postroom.delivered"], root["error"]) == (2, 1, True)
    # Nobody's address is in it.
    assert not any("ann@" in str(span) or "bob@" in str(span) or user in str(span) for span in spans)
    assert counted['spans_total{outcome="refused"}'] == counted["lost_total"] == 0


def test_nothing_is_lost_while_nobody_listens_and_no_mail_waits(make_server):
    address = free_address()
    with Host() as host:
        # Somebody takes connections, and says nothing.
        with socket.create_server((address, PORT)):
            server = start(make_server, host, "out.test", extra=host.route("out.test")
                           + f'[telemetry]\nendpoint = "http://{address}:{PORT}/v1/traces"\n')  # fmt: skip
            user = server.user()
            began = time.monotonic()
            for n in range(10):
                submit(server, user, [f"a{n}@out.test", f"b{n}@out.test"], message(f"mute {n}"))
            host.has(10)
            took = time.monotonic() - began
        # Then nobody does; over a crash too.
        for n in range(5):
            submit(server, user, f"c{n}@out.test", message(f"gone {n}"))
        host.has(15)
        eventually("a try", lambda: figures(server, "telemetry")["failed_requests_total"] > 0, 30)
        assert figures(server, "telemetry")["behind"] > 0
        server.kill()
        server.start()
        with Collector(address) as collector:
            spans = collector.has(10 * 3 + 5 * 2)
    assert took < 10
    roots = [span for span in spans if span["name"] == "message"]
    assert len(roots) == 15 and sum(span["postroom.delivered"] for span in roots) == 25
    assert len({span["trace"] for span in spans}) == 15


def test_what_a_collector_refuses_is_counted_and_what_it_puts_off_comes_again(make_server):
    class Moody(Collector):
        def answer(self, earlier: int) -> tuple[int, dict, bytes]:
            match earlier:
                case 0:
                    return 503, {"Retry-After": "2"}, b""
                case 1:
                    return 200, {}, b'{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too long"}}'
                case 2:
                    return 400, {}, b"what?"
                case _:
                    return 200, {}, b""

    def tell(number: int) -> None:
        submit(server, user, f"u{number}@out.test", message(f"{number}"))
        eventually("it is told", lambda: len(collector.requests) >= number + 2)

    with Host() as host, Moody() as collector:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + collector.config())
        user = server.user()
        began = time.monotonic()
        tell(0)
        assert time.monotonic() - began >= 2
        tell(1)
        tell(2)
        spans = collector.has(4)
        counted = eventually("it is counted", lambda: (f := figures(server, "telemetry"))["behind"] == 0 and f)
    # The first mail came with the second request, that of the third was not taken, and is not told again.
    assert len({span["trace"] for span in spans}) == 2 and len(collector.requests) == 4
    assert counted['spans_total{outcome="refused"}'] == 3 and counted['spans_total{outcome="taken"}'] == 3
    assert counted["failed_requests_total"] == 1


def test_a_part_of_all_mail_is_told_whole(make_server):
    with Host() as host, Collector() as collector:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + collector.config(sample=0.3))
        user = server.user()
        for n in range(60):
            submit(server, user, f"u{n}@out.test", message(f"{n}"))
        host.has(60)
        eventually("all is read", lambda: figures(server, "telemetry")["behind"] == 0, 30)
        spans = collector.once()
    traces = {}
    for span in spans:
        traces.setdefault(span["trace"], []).append(span["name"])
    # Of 60 by 0.3: 18, and 5 to 35 in all but one of some hundred thousand runs.
    assert 5 <= len(traces) <= 35 and all(sorted(names) == ["message", "send"] for names in traces.values())


@pytest.mark.skipif(not find_spec("rotel"), reason="the collector of PyPI's rotel is for Python 3.11")
def test_a_real_collector_takes_them(make_server, tmp_path):
    with Host() as host, Collector() as behind:
        address = free_address()
        at = f"{address}:{PORT}"
        agent = Path(str(resources.files("rotel"))) / "rotel-agent"
        agent.chmod(0o755)
        command = [agent, "start", "--otlp-http-endpoint", at, "--otlp-grpc-endpoint", f"{address}:{PORT + 1}",
                   "--exporter", "otlp", "--otlp-exporter-protocol", "http",
                   "--otlp-exporter-endpoint", behind.url.removesuffix("/v1/traces"), "--traces-batch-timeout", "200ms"]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        with open(tmp_path / "log", "wb") as log:
            collector = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        try:
            eventually("the collector listens", lambda: socket.socket().connect_ex((address, PORT)) == 0)
            server = start(make_server, host, "out.test", extra=host.route("out.test")
                           + f'[telemetry]\nendpoint = "http://{at}/v1/traces"\n')  # fmt: skip
            submit(server, server.user(), ["ann@out.test", "joe@out.test"], message("through another"))
            spans = behind.has(3)
            told = figures(server, "telemetry")
        finally:
            collector.send_signal(signal.SIGTERM)
            collector.wait(20)
    assert sorted(span["name"] for span in spans) == ["message", "send", "send"]
    (root,) = [span for span in spans if span["name"] == "message"]
    assert all(span["trace"] == root["trace"] and span["parent"] in (b"", root["id"]) for span in spans)
    assert told['spans_total{outcome="taken"}'] == 3 and told["failed_requests_total"] == 0


@pytest.mark.parametrize("line, why", [
    ('endpoint = "ftp://x/"', "is not https://host"), ('endpoint = "https://x/"\nsample = 2', "not from 0 to 1"),
    ('endpoint = "https://x/"\nheaders = { "a b" = "c" }', "no field of a request"),
])  # fmt: skip
def test_what_cannot_be_told_is_no_configuration(make_server, line, why):
    server = make_server()
    good = server.config.read_text()
    server.config.write_text(f"{good}[telemetry]\n{line}\n")
    done = subprocess.run([BINARY, "serve", "--check", "--config", server.config], capture_output=True, text=True)
    server.config.write_text(good)
    assert done.returncode != 0 and why in done.stderr
