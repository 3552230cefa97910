"""Fixtures: a running server for each test module, its log with every failure, `verify` at every end.

READY is the one table of what exists. Tests of what is not there yet carry `needs("…")`; they are left out, counted, and
named at the end of the run, and switched on here.
"""

import os
from collections import Counter

import pytest

import postgresql
import postroom

READY = {"relay", "queue", "smtp", "lmtp", "pop3", "imap", "tls", "cli", "credential", "doctor", "mailbox list", "account password"}
PEER_HAS = {"smtp", "lmtp", "pop3", "imap", "tls", "relay"}

excluded: Counter = Counter()


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*parts): left out until READY in conftest.py has all of the parts")
    config.addinivalue_line("markers", "embedded: looks at what the embedded store does; left out on PostgreSQL")
    config.addinivalue_line("markers", "ours: says how Postroom does it where servers differ; left out for a peer")


def pytest_collection_modifyitems(config, items):
    peer = os.environ.get("POSTROOM_PEER")
    have = PEER_HAS if peer else READY
    keep, out = [], []
    for item in items:
        missing = {part for mark in item.iter_markers("needs") for part in mark.args} - have
        if peer and item.get_closest_marker("ours"):
            missing.add("postroom")
        if os.environ.get("POSTROOM_STORE") == "postgresql" and item.get_closest_marker("embedded"):
            missing.add("the embedded store")
        (out if missing else keep).append(item)
        if missing:
            excluded[f"{item.path.name}: needs {', '.join(sorted(missing))}"] += 1
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = keep


def pytest_terminal_summary(terminalreporter):
    if excluded:
        terminalreporter.section("left out, see READY in tests/conftest.py")
        for why, count in sorted(excluded.items()):
            terminalreporter.line(f"{why}: {count} tests")


def options(given: dict) -> dict:
    """POSTROOM_STORE=postgresql: every server gets a database of its own there."""
    if os.environ.get("POSTROOM_STORE") != "postgresql":
        return given
    return given | {"extra": given.get("extra", "") + f'[store]\nurl = "{postgresql.database()}"\n'}


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    """A running server; the module's SERVER, a dict, holds other options of postroom.Server."""
    made = postroom.make_server(tmp_path_factory.mktemp("postroom"), **options(getattr(request.module, "SERVER", {})))
    made.create()
    made.start()
    yield made
    if made.running:
        made.stop()
    made.verify()


@pytest.fixture
def make_server(tmp_path):
    """Makes servers with options of their own for one test: created, not started."""
    made = []

    def make(**given):
        directory = tmp_path / f"server{len(made)}"
        directory.mkdir()
        made.append(postroom.make_server(directory, **options(given)))
        made[-1].create()
        return made[-1]

    yield make
    for one in made:
        if one.running:
            one.stop()
        one.verify()


@pytest.fixture(autouse=True)
def log_of_the_test(request):
    """Keeps where the log stood when the test began, for the report of a failure."""
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        request.node.server_log = (server, server.log.stat().st_size if server.log.exists() else 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and hasattr(item, "server_log"):
        server, since = item.server_log
        report.sections.append(("server log", server.tail(since)))
    return report
