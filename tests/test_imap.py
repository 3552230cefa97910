"""IMAP by hand: raw dialogues for what clients rarely show (CONDSTORE, QRESYNC, IDLE, numbers, refusals)."""

import re
import time

import pytest

from mail import message
from postroom import DOMAIN, PASSWORD, Dialogue, eventually

pytestmark = pytest.mark.needs("imap")
SERVER = {"accounts": 60}

CAPABILITIES = [
    "IMAP4rev1", "ID", "ENABLE", "IDLE", "LITERAL+", "SASL-IR", "NAMESPACE", "CHILDREN", "UIDPLUS", "UNSELECT", "BINARY",
    "LIST-EXTENDED", "LIST-STATUS", "MOVE", "ESEARCH", "SEARCHRES", "CONDSTORE", "QRESYNC", "MULTIAPPEND", "STATUS=SIZE",
    "SAVEDATE", "WITHIN",
]  # fmt: skip
OURS = ["IMAP4rev2", "SPECIAL-USE", "CREATE-SPECIAL-USE", "OBJECTID", "UTF8=ACCEPT"]


def opened(server, user: str, select: str = "INBOX") -> Dialogue:
    imap = server.connect("imap")
    assert imap.line().startswith("* OK")
    imap.tagged("in", f'LOGIN "{user}" "{PASSWORD}"')
    if select:
        imap.tagged("sel", f"SELECT {select}")
    return imap


def append(imap: Dialogue, raw: bytes, mailbox: str = "INBOX", flags: str = "") -> int:
    """Appends a message and returns its UID (RFC 4315 §3)."""
    imap.raw(b"ap APPEND %s %s{%d+}\r\n%s\r\n" % (mailbox.encode(), flags.encode(), len(raw), raw))
    return int(re.search(r"\[APPENDUID \d+ (\d+)\]", imap.until("ap")[-1])[1])


def filled(server, count: int) -> tuple[str, list[int]]:
    """An account with that many messages in its INBOX, and their UIDs."""
    user = server.user()
    with opened(server, user, "") as imap:
        return user, [append(imap, message(f"message {n}", f"line {n}\r\n")) for n in range(1, count + 1)]


def untagged(lines: list[str], what: str) -> list[str]:
    """Those of the lines that are `* … WHAT …`."""
    return [line for line in lines if re.match(rf"\* (\d+ )?{re.escape(what)}\b", line)]


def code(lines: list[str], name: str) -> int:
    """The number in a response code, as [UIDNEXT 4]."""
    return next(int(found[1]) for line in lines if (found := re.search(rf"\[{name} (\d+)", line)))


def modseq_of(line: str) -> int:
    return int(re.search(r"MODSEQ \((\d+)\)", line)[1])


# -- before and around sign-in ----------------------------------------------------------------------------------------


def test_capabilities(server):
    with server.connect("imap") as imap:
        greeting = imap.line()
        assert greeting.startswith("* OK [CAPABILITY IMAP4rev1 ") or "IMAP4rev1" in greeting
        before = imap.tagged("a", "CAPABILITY")[0].split()
        assert "AUTH=PLAIN" in before and "STARTTLS" in before
        imap.tagged("b", f"LOGIN u0@{DOMAIN} {PASSWORD}")
        after = imap.tagged("c", "CAPABILITY")[0].split()
        assert set(CAPABILITIES + ([] if server.peer else OURS)) <= set(after)
        assert server.peer or any(word.startswith("APPENDLIMIT") for word in after)
        assert "STARTTLS" not in after
        imap.tagged("d", 'ID ("name" "test")')
        imap.tagged("e", "NAMESPACE")
        assert untagged(imap.tagged("f", "LOGOUT"), "BYE")


def test_starttls(server):
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", "STARTTLS")
        imap.starttls()
        imap.tagged("b", "STARTTLS", "BAD")
        imap.tagged("c", f"LOGIN u0@{DOMAIN} {PASSWORD}")


def test_never_in_the_clear(make_server):
    server = make_server(cleartext_login=False)
    server.start()
    with server.connect("imap") as imap:
        imap.line()
        before = imap.tagged("a", "CAPABILITY")[0].split()
        assert "LOGINDISABLED" in before and "AUTH=PLAIN" not in before
        imap.tagged("b", f"LOGIN u0@{DOMAIN} {PASSWORD}", "NO [PRIVACYREQUIRED]")
        imap.tagged("c", "STARTTLS")
        imap.starttls()
        imap.tagged("d", f"LOGIN u0@{DOMAIN} {PASSWORD}")


def test_sign_in(server):
    token = "AHUwQGV4YW1wbGUudGVzdABwdw=="  # NUL u0@example.test NUL pw
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"LOGIN u0@{DOMAIN} wrong", "NO [AUTHENTICATIONFAILED]")
        imap.tagged("b", "SELECT INBOX", "BAD" if server.peer else "")
        imap.send("c AUTHENTICATE PLAIN")
        assert imap.line().startswith("+")
        imap.send("*")
        imap.until("c", "BAD")
        imap.send("d AUTHENTICATE PLAIN")
        assert imap.line().startswith("+")
        imap.send(token)
        imap.until("d")
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"AUTHENTICATE PLAIN {token}")
    with server.connect("imap") as imap:
        imap.line()
        imap.send("a LOGIN {15}")
        assert imap.line().startswith("+")
        imap.send(f"u0@{DOMAIN} {{2+}}")
        imap.send(PASSWORD)
        imap.until("a")


def test_errors_leave_the_connection_usable(server):
    user, _ = filled(server, 1)
    with opened(server, user) as imap:
        for n, line in enumerate(["FROBNICATE", "FETCH", "FETCH 1", "FETCH 0 FLAGS", "FETCH 1 (FLAGS", "STORE 1",
                                  "SEARCH", "SEARCH FROB", "LIST", 'SELECT "', "UID", "UID FROB 1", "FETCH 1 BODY[",
                                  "COPY 1", "FETCH 1:x FLAGS", "FETCH 4294967296 FLAGS"]):  # fmt: skip
            imap.tagged(f"x{n}", line, "BAD")
            if server.peer and n % 8 == 7:
                imap.tagged(f"y{n}", "NOOP")  # Dovecot hangs up on too many errors in a row
        imap.tagged("n", "NOOP")


# -- messages -------------------------------------------------------------------------------------------------------


def test_select_says_what_is_there(server):
    user, uids = filled(server, 3)
    with opened(server, user, "") as imap:
        lines = imap.tagged("a", "SELECT INBOX (CONDSTORE)", "OK [READ-WRITE]")
        assert "* 3 EXISTS" in lines
        assert code(lines, "UIDNEXT") == uids[-1] + 1
        validity = code(lines, "UIDVALIDITY")
        assert code(lines, "HIGHESTMODSEQ") > 0
        assert re.search(r"\[PERMANENTFLAGS \(.*\\\*.*\)\]", "\n".join(lines))
        assert imap.tagged("b", "EXAMINE INBOX", "OK [READ-ONLY]")
        imap.tagged("c", "STORE 1 +FLAGS (\\Seen)", "NO" if not server.peer else "")
        status = imap.tagged("d", "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE)")[0]
        assert f"MESSAGES 3 UIDNEXT {uids[-1] + 1} UIDVALIDITY {validity} UNSEEN 3" in status


def test_append_and_fetch(server):
    user, raw = server.user(), message("appended", "Hello.\r\n.\r\n")
    with opened(server, user) as imap:
        imap.raw(b'a APPEND INBOX (\\Seen $Label) "01-Jan-2020 12:00:00 +0100" {%d}\r\n' % len(raw))
        assert imap.line().startswith("+ ")
        imap.raw(raw + b"\r\n")
        lines = imap.until("a")
        assert "* 1 EXISTS" in lines and "[APPENDUID " in lines[-1]
        fetched = imap.tagged("b", "FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE UID)")[0]
        assert "\\Seen" in fetched and "$Label" in fetched and f"RFC822.SIZE {len(raw)}" in fetched
        assert re.search(r'"[ 0]1-Jan-2020 (12:00:00 \+0100|11:00:00 \+0000)"', fetched)
        imap.send("c FETCH 1 BODY[]")
        assert f"BODY[] {{{len(raw)}}}" in imap.line()
        assert imap.octets(len(raw)) == raw
        imap.until("c")
        head = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        for section, expected in {
            "HEADER": head, "TEXT": b"Hello.\r\n.\r\n", "HEADER.FIELDS (SUBJECT)": b"Subject: appended\r\n\r\n",
            "1": b"Hello.\r\n.\r\n",
        }.items():  # fmt: skip
            imap.send(f"d FETCH 1 BODY.PEEK[{section}]")
            assert imap.line().upper().endswith(f"{{{len(expected)}}}"), section
            assert imap.octets(len(expected)) == expected
            imap.until("d")
        imap.send("e FETCH 1 BODY.PEEK[]<6.8>")
        assert "BODY[]<6> {8}" in imap.line()
        assert imap.octets(8) == raw[6:14]
        imap.until("e")


def test_reading_a_body_sets_seen_and_peek_does_not(server):
    user, _ = filled(server, 2)
    with opened(server, user) as imap:
        imap.tagged("a", "FETCH 1 BODY.PEEK[]")
        assert "\\Seen" not in imap.tagged("b", "FETCH 1 FLAGS")[0]
        imap.tagged("c", "FETCH 1 BODY[TEXT]")
        assert "\\Seen" in imap.tagged("d", "FETCH 1 FLAGS")[0]


def test_append_to_a_missing_mailbox(server):
    with opened(server, server.user()) as imap:
        imap.raw(b"a APPEND nowhere {5+}\r\nHello\r\n")
        assert "[TRYCREATE]" in imap.until("a", "NO")[-1]
        imap.raw(b"b APPEND nowhere {5}\r\n")
        first = imap.line()  # RFC 9051 §6.3.12: refused at once, or after the literal
        if first.startswith("+"):
            imap.raw(b"Hello\r\n")
            first = imap.until("b", "NO")[-1]
        assert first.startswith("b NO [TRYCREATE]")
        imap.tagged("c", "NOOP")


def test_envelope_and_bodystructure(server):
    raw = (
        b'From: "Smith, Ann" <ann@elsewhere.test>\r\nTo: u0@example.test, Bob <bob@example.test>\r\n'
        b"Subject: two parts\r\nDate: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@elsewhere.test>\r\n"
        b"In-Reply-To: <0@elsewhere.test>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=cut\r\n\r\n"
        b"--cut\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\r\ntwo\r\n"
        b'--cut\r\nContent-Type: application/pdf; name="a b.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        b"Content-Disposition: attachment; filename=x.pdf\r\n\r\nQUJD\r\n--cut--\r\n"
    )
    with opened(server, server.user()) as imap:
        append(imap, raw)
        (line,) = untagged(imap.tagged("a", "FETCH 1 (ENVELOPE)"), "FETCH") or [""]
        ann = '(("Smith, Ann" NIL "ann" "elsewhere.test"))'
        assert line == (
            f'* 1 FETCH (ENVELOPE ("Thu, 01 Jan 2026 10:00:00 +0000" "two parts" {ann} {ann} {ann} '
            '((NIL NIL "u0" "example.test")("Bob" NIL "bob" "example.test")) NIL NIL "<0@elsewhere.test>" '
            '"<1@elsewhere.test>"))'
        )
        (line,) = untagged(imap.tagged("b", "FETCH 1 (BODYSTRUCTURE)"), "FETCH")
        # RFC 9051 §7.5.2, by hand: 8 octets and 1 line of text (its last line end belongs to the boundary).
        assert line.lower() == (
            '* 1 fetch (bodystructure (("text" "plain" ("charset" "utf-8") nil nil "7bit" 8 1 nil nil nil nil)'
            '("application" "pdf" ("name" "a b.pdf") nil nil "base64" 4 nil ("attachment" ("filename" "x.pdf")) nil nil)'
            ' "mixed" ("boundary" "cut") nil nil nil))'
        )
        lines = imap.tagged("c", "FETCH 1 (BINARY.PEEK[2] BINARY.SIZE[2])")
        assert "BINARY.SIZE[2] 3" in "\n".join(lines) and "ABC" in "".join(lines)


def test_flags(server):
    user, _ = filled(server, 3)
    with opened(server, user) as imap, opened(server, user) as other:
        lines = imap.tagged("a", "STORE 1:2 +FLAGS (\\Flagged $Work)")
        assert len(untagged(lines, "1 FETCH")) == 1 and all("\\Flagged" in line for line in untagged(lines, "FETCH"))
        assert not untagged(imap.tagged("b", "STORE 1 FLAGS.SILENT (\\Seen)"), "FETCH")
        assert re.search(r"FLAGS \(\\Seen\)", imap.tagged("c", "FETCH 1 FLAGS")[0].replace(" \\Recent", ""))
        imap.tagged("d", "STORE 2 -FLAGS ($Work)")
        seen = "\n".join(other.tagged("e", "NOOP"))
        assert "* 1 FETCH" in seen and "* 2 FETCH" in seen and "* 3 FETCH" not in seen
        assert "$Work" not in other.tagged("f", "FETCH 2 FLAGS")[0]


def test_expunge(server):
    user, uids = filled(server, 5)
    with opened(server, user) as imap, opened(server, user) as other:
        imap.tagged("a", "STORE 2,4 +FLAGS.SILENT (\\Deleted)")
        # RFC 4315 §2.1: only those of the set that are deleted.
        assert untagged(imap.tagged("b", f"UID EXPUNGE {uids[3]}:{uids[4]}"), "EXPUNGE") == ["* 4 EXPUNGE"]
        assert untagged(imap.tagged("c", "EXPUNGE"), "EXPUNGE") == ["* 2 EXPUNGE"]
        # RFC 9051 §7.5.1: no EXPUNGE during FETCH, STORE, SEARCH: their numbers would move.
        assert not untagged(other.tagged("d", "FETCH 1:5 FLAGS", ""), "EXPUNGE")
        assert len(untagged(other.tagged("e", "NOOP"), "EXPUNGE")) == 2
        assert other.tagged("f", "UID SEARCH ALL")[0].split()[2:] == [str(uids[n]) for n in (0, 2, 4)]
        imap.tagged("g", "STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert not untagged(imap.tagged("h", "CLOSE"), "EXPUNGE")
        assert "* 2 EXISTS" in imap.tagged("i", "SELECT INBOX")
        imap.tagged("j", "STORE 1 +FLAGS.SILENT (\\Deleted)")
        imap.tagged("k", "UNSELECT")
        assert "* 2 EXISTS" in imap.tagged("l", "SELECT INBOX")


def test_copy_and_move(server):
    user, uids = filled(server, 4)
    with opened(server, user) as imap:
        imap.tagged("a", "STORE 1 +FLAGS (\\Flagged)")
        assert "[TRYCREATE]" in imap.tagged("b", "COPY 1 there", "NO")[-1]
        imap.tagged("c", "CREATE there")
        copied = imap.tagged("d", "COPY 1:2 there")[-1]
        assert re.search(rf"\[COPYUID \d+ {uids[0]}:{uids[1]} \d+:\d+\]", copied)
        lines = imap.tagged("e", f"UID MOVE {uids[2]} there")
        assert "[COPYUID " in "\n".join(lines) and untagged(lines, "EXPUNGE") == ["* 3 EXPUNGE"]
        lines = imap.tagged("f", "SELECT there")
        assert "* 3 EXISTS" in lines
        assert "\\Flagged" in imap.tagged("g", "FETCH 1 FLAGS")[0]
        imap.tagged("h", "SELECT INBOX")
        assert len(imap.tagged("i", "UID SEARCH ALL")[0].split()) == 2 + 3


def test_sequence_sets(server):
    user, uids = filled(server, 3)
    with opened(server, user) as imap:
        for numbers, count in {"*": 1, "*:1": 3, "3:2": 2, "1,3,1": 2, "2:*": 2}.items():
            assert len(untagged(imap.tagged("a", f"FETCH {numbers} (UID)"), "FETCH")) == count, numbers
        for numbers, count in {"*": 1, "4000000000:*": 1, "*:4294967295": 1, f"{uids[1]}:*": 2, "4000000000": 0}.items():
            assert len(untagged(imap.tagged("b", f"UID FETCH {numbers} (FLAGS)"), "FETCH")) == count, numbers
        imap.tagged("c", "CREATE empty")
        imap.tagged("d", "SELECT empty")
        assert not untagged(imap.tagged("e", "UID FETCH 1:* (FLAGS)"), "FETCH")
        assert not untagged(imap.tagged("f", "UID FETCH * (FLAGS)"), "FETCH")


# -- mailboxes --------------------------------------------------------------------------------------------------------


def names(lines: list[str]) -> set[str]:
    return {line.rpartition(' "/" ')[2].strip('"') for line in untagged(lines, "LIST")}


def test_mailboxes(server):
    with opened(server, server.user(), "") as imap:
        for name in ["a", "a/b", "a/b/c", "Entw&APw-rfe"]:
            imap.tagged("c", f'CREATE "{name}"')
        imap.tagged("c", 'CREATE "a"', "NO")
        assert {"INBOX", "a", "a/b", "a/b/c"} <= names(imap.tagged("l", 'LIST "" *'))
        top = names(imap.tagged("l", 'LIST "" %'))
        assert "a" in top and "a/b" not in top
        assert names(imap.tagged("l", 'LIST "a/" %')) == {"a/b"}
        assert names(imap.tagged("l", 'LIST "" "Entw*"')) == {"Entw&APw-rfe"}
        imap.tagged("s", "SUBSCRIBE a/b")
        assert names(imap.tagged("l", 'LIST (SUBSCRIBED) "" *')) >= {"a/b"}
        imap.tagged("s", "UNSUBSCRIBE a/b")
        assert "a/b" not in names(imap.tagged("l", 'LIST (SUBSCRIBED) "" *'))
        imap.tagged("r", "RENAME a/b z")
        assert {"z", "z/c"} <= names(imap.tagged("l", 'LIST "" *'))
        assert "\\HasChildren" in imap.tagged("l", 'LIST "" z')[0]
        lines = imap.tagged("l", 'LIST "" z RETURN (STATUS (MESSAGES) CHILDREN)')
        assert untagged(lines, "STATUS")[0] == "* STATUS z (MESSAGES 0)"
        imap.tagged("d", "DELETE z/c")
        imap.tagged("d", "DELETE z/c", "NO")
        imap.tagged("d", "DELETE INBOX", "NO")
        imap.tagged("s", "SELECT z/c", "NO")


def test_rename_inbox_moves_its_mail(server):
    # RFC 9051 §6.3.6: INBOX stays, empty.
    user, _ = filled(server, 2)
    with opened(server, user, "") as imap:
        imap.tagged("a", "RENAME INBOX old")
        assert "* 2 EXISTS" in imap.tagged("b", "SELECT old")
        assert "* 0 EXISTS" in imap.tagged("c", "SELECT INBOX")


def test_a_new_mailbox_of_an_old_name_has_a_new_uidvalidity(server):
    with opened(server, server.user(), "") as imap:
        imap.tagged("a", "CREATE box")
        append(imap, message(), "box")
        first = imap.tagged("b", "STATUS box (UIDVALIDITY UIDNEXT)")[0]
        imap.tagged("c", "DELETE box")
        imap.tagged("d", "CREATE box")
        assert imap.tagged("e", "STATUS box (UIDVALIDITY UIDNEXT)")[0] != first


# -- search -----------------------------------------------------------------------------------------------------------


def test_search(server):
    user = server.user()
    with opened(server, user) as imap:
        append(imap, message("Quarterly Report", "needle in here\r\n"), flags="(\\Seen) ")
        append(imap, message("lunch", "Zażółć gęślą jaźń\r\n", "Content-Type: text/plain; charset=utf-8\r\n"))
        append(imap, message("=?utf-8?q?caf=C3=A9?=", "x" * 3000 + "\r\n"), flags="(\\Flagged $Work) ")
        imap.tagged("n", "NOOP")

        def found(keys: str) -> str:
            return imap.tagged("s", f"SEARCH {keys}")[0].removeprefix("* SEARCH").strip()

        for keys, expected in {
            "ALL": "1 2 3", "SEEN": "1", "UNSEEN": "2 3", "FLAGGED": "3", "KEYWORD $Work": "3", "UNKEYWORD $Work": "1 2",
            "SUBJECT report": "1", "SUBJECT nothing": "", "BODY needle": "1", "TEXT QUARTERLY": "1", "LARGER 2000": "3",
            "SMALLER 2000": "1 2", "NOT SEEN": "2 3", "OR SEEN FLAGGED": "1 3", "(SEEN SUBJECT report)": "1", "2:*": "2 3",
            "FROM stranger": "1 2 3", "HEADER Message-ID elsewhere": "1 2 3", "SENTON 1-Jan-2026": "1 2 3",
            "SENTBEFORE 1-Jan-2026": "", "SINCE 1-Jan-2020": "1 2 3", "BEFORE 1-Jan-2020": "", "YOUNGER 3600": "1 2 3",
            "OLDER 3600": "", "DELETED": "", "UNDELETED UNANSWERED UNDRAFT": "1 2 3",
        }.items():  # fmt: skip
            assert found(keys) == expected, keys
        for words, expected in {"gęślą": "2", "GĘŚLĄ": "2", "café": "3"}.items():
            octets = words.encode()
            imap.raw(b"u SEARCH CHARSET UTF-8 TEXT {%d+}\r\n%s\r\n" % (len(octets), octets))
            assert imap.until("u")[0].removeprefix("* SEARCH").strip() == expected, words
        assert "[BADCHARSET" in imap.tagged("v", "SEARCH CHARSET X-NONE TEXT x", "NO")[-1]


def test_esearch_and_saved_results(server):
    user, uids = filled(server, 4)
    with opened(server, user) as imap:
        line = imap.tagged("a", "SEARCH RETURN (MIN MAX COUNT ALL) 2:4")[0]
        assert line.startswith('* ESEARCH (TAG "a")')
        assert all(part in line for part in ["MIN 2", "MAX 4", "COUNT 3", "ALL 2:4"])
        line = imap.tagged("b", "UID SEARCH RETURN () 1:2")[0]
        assert line == f'* ESEARCH (TAG "b") UID ALL {uids[0]}:{uids[1]}'
        assert not untagged(imap.tagged("c", "SEARCH RETURN (SAVE) 2:3"), "ESEARCH")
        assert len(untagged(imap.tagged("d", "FETCH $ (FLAGS)"), "FETCH")) == 2
        imap.tagged("e", "UID STORE $ +FLAGS (\\Flagged)")
        assert imap.tagged("f", "SEARCH FLAGGED")[0] == "* SEARCH 2 3"
        assert imap.tagged("g", "SEARCH RETURN (COUNT) NOT $")[0] == '* ESEARCH (TAG "g") COUNT 2'


# -- the live mailbox -------------------------------------------------------------------------------------------------


def test_idle_tells_a_change_within_200_ms(server):
    user, _ = filled(server, 2)
    with opened(server, user) as idle, opened(server, user) as other:
        idle.send("i IDLE")
        assert idle.line().startswith("+")

        def told(pattern: str, change) -> None:
            began = time.monotonic()
            change()
            while not re.match(pattern, idle.line()):
                pass
            # The peer batches what it tells; the bound is ours.
            assert server.peer or time.monotonic() - began < 0.2

        told(r"\* 1 FETCH .*\\Flagged", lambda: other.tagged("a", "STORE 1 +FLAGS.SILENT (\\Flagged)"))
        told(r"\* 3 EXISTS", lambda: append(other, message()))
        told(r"\* 4 EXISTS", lambda: server.deliver(user, message()))
        other.tagged("b", "STORE 2 +FLAGS.SILENT (\\Deleted)")
        told(r"\* 2 EXPUNGE", lambda: other.tagged("c", "EXPUNGE"))
        idle.send("DONE")
        idle.until("i")


def test_condstore(server):
    user, _ = filled(server, 3)
    with opened(server, user, "") as imap, opened(server, user) as other:
        start = code(imap.tagged("a", "SELECT INBOX (CONDSTORE)"), "HIGHESTMODSEQ")
        changed = modseq_of(untagged(imap.tagged("b", "STORE 2 +FLAGS (\\Flagged)"), "FETCH")[0])
        assert changed > start
        lines = untagged(imap.tagged("c", f"FETCH 1:* (FLAGS) (CHANGEDSINCE {start})"), "FETCH")
        assert len(lines) == 1 and lines[0].startswith("* 2 FETCH") and modseq_of(lines[0]) == changed
        # RFC 7162 §3.1.3: those that changed since are left alone and named.
        lines = imap.tagged("d", f"STORE 1:3 (UNCHANGEDSINCE {start}) +FLAGS.SILENT (\\Answered)", "OK [MODIFIED 2]")
        assert len(untagged(lines, "FETCH")) == 2  # even when silent, with the new MODSEQ (§3.1.3)
        assert "\\Answered" not in imap.tagged("e", "FETCH 2 FLAGS")[0]
        found = imap.tagged("f", f"SEARCH MODSEQ {changed}")[0]
        assert re.match(r"\* SEARCH 1 2 3 \(MODSEQ \d+\)", found)
        # A MODSEQ is told to every session that has enabled CONDSTORE, to no other.
        assert "MODSEQ" not in "".join(other.tagged("g", "NOOP"))
        highest = re.search(r"HIGHESTMODSEQ (\d+)", imap.tagged("h", "STATUS INBOX (HIGHESTMODSEQ)")[0])
        assert int(highest[1]) >= changed


def test_qresync(server):
    user, uids = filled(server, 6)
    with opened(server, user, "") as imap:
        imap.tagged("a", "ENABLE QRESYNC")
        lines = imap.tagged("b", "SELECT INBOX")
        validity, known = code(lines, "UIDVALIDITY"), code(lines, "HIGHESTMODSEQ")
        imap.tagged("c", "UNSELECT")
        with opened(server, user) as other:
            other.tagged("x", "STORE 1 +FLAGS.SILENT (\\Flagged)")
            other.tagged("y", "STORE 2:3 +FLAGS.SILENT (\\Deleted)")
            other.tagged("z", "EXPUNGE")
            new = append(other, message())
        lines = imap.tagged("d", f"SELECT INBOX (QRESYNC ({validity} {known} 1:{uids[-1]}))")
        assert f"* VANISHED (EARLIER) {uids[1]}:{uids[2]}" in lines
        told = untagged(lines, "FETCH")
        assert any(f"UID {uids[0]} " in line and "\\Flagged" in line for line in told)
        assert not any(f"UID {uids[4]} " in line for line in told)
        lines = imap.tagged("e", f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {known} VANISHED)")
        assert any(line.startswith("* VANISHED (EARLIER)") for line in lines)
        assert any(f"UID {new} " in line or f"UID {new})" in line for line in untagged(lines, "FETCH"))
        # From here on an expunge is told by UID (RFC 7162 §3.2.10).
        imap.tagged("f", f"UID STORE {uids[3]} +FLAGS.SILENT (\\Deleted)")
        lines = imap.tagged("g", "EXPUNGE")
        assert f"* VANISHED {uids[3]}" in lines and not untagged(lines, "EXPUNGE")
        # A wrong UIDVALIDITY: as if the parameter were not there.
        lines = imap.tagged("h", f"SELECT INBOX (QRESYNC ({validity + 1} {known}))")
        assert not any("VANISHED" in line for line in lines)


def test_vanished_covers_uids_above_the_highest_that_is_left(server):
    # trap 9: the last messages are gone, and a client that knew them must hear it.
    user, uids = filled(server, 4)
    with opened(server, user, "") as imap:
        imap.tagged("a", "ENABLE QRESYNC")
        known = code(imap.tagged("b", "SELECT INBOX"), "HIGHESTMODSEQ")
        imap.tagged("c", "STORE 3:4 +FLAGS.SILENT (\\Deleted)")
        imap.tagged("d", "EXPUNGE")
    with opened(server, user, "") as imap:
        imap.tagged("a", "ENABLE QRESYNC")
        imap.tagged("b", "SELECT INBOX")
        lines = imap.tagged("c", f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {known} VANISHED)")
        assert f"* VANISHED (EARLIER) {uids[2]}:{uids[3]}" in lines


def test_multiappend(server):
    with opened(server, server.user()) as imap:
        one, two = message("one"), message("two")
        imap.raw(b"a APPEND INBOX {%d+}\r\n%s (\\Seen) {%d+}\r\n%s\r\n" % (len(one), one, len(two), two))
        lines = imap.until("a")
        assert "* 2 EXISTS" in lines and re.search(r"\[APPENDUID \d+ \d+:\d+\]", lines[-1])
        assert imap.tagged("b", "SEARCH SEEN")[0] == "* SEARCH 2"


@pytest.mark.ours
def test_object_ids_and_special_use(server):
    user, _ = filled(server, 1)
    with opened(server, user) as imap:
        email = re.search(r"EMAILID \((\S+)\)", imap.tagged("a", "FETCH 1 (EMAILID THREADID)")[0])[1]
        imap.tagged("b", "CREATE Bin (USE (\\Trash))", "")
        trash = next(line for line in imap.tagged("c", 'LIST (SPECIAL-USE) "" *') if "\\Trash" in line)
        where = trash.rpartition(' "/" ')[2]
        assert "MAILBOXID (" in imap.tagged("d", f"STATUS {where} (MAILBOXID)")[0]
        imap.tagged("e", f"MOVE 1 {where}")
        imap.tagged("f", f"SELECT {where}")
        # RFC 8474 §4: the id moves with the message.
        assert f"EMAILID ({email})" in imap.tagged("g", "FETCH 1 (EMAILID)")[0]


@pytest.mark.ours
def test_utf8_accept(server):
    with opened(server, server.user(), "") as imap:
        imap.tagged("a", "ENABLE UTF8=ACCEPT")
        imap.tagged("b", 'CREATE "Entwürfe 日本"'.encode())
        assert "Entw" in "".join(imap.tagged("c", 'LIST "" "Entw*"'))
    with opened(server, server.user(), "") as imap:
        imap.tagged("a", "ENABLE IMAP4rev2")
        assert "* ESEARCH" in "".join(imap.tagged("s", "SELECT INBOX") + imap.tagged("b", "SEARCH ALL"))


def test_pipelined_commands_answer_in_order(server):
    user, _ = filled(server, 3)
    with opened(server, user) as imap:
        imap.raw(b"a STORE 1 +FLAGS.SILENT (\\Seen)\r\nb SEARCH SEEN\r\nc FETCH 1 FLAGS\r\nd NOOP\r\n")
        lines = imap.until("d")
        assert [line[:4] for line in lines if re.match("[a-d] ", line)] == ["a OK", "b OK", "c OK", "d OK"]
        assert "* SEARCH 1" in lines and "\\Seen" in untagged(lines, "1 FETCH")[-1]


def test_a_change_survives_a_restart(server):
    user, uids = filled(server, 3)
    with opened(server, user) as imap:
        imap.tagged("a", "STORE 2 +FLAGS (\\Flagged $Work)")
        imap.tagged("b", "CREATE kept")
        imap.tagged("c", "COPY 2 kept")
        before = [line for line in imap.tagged("d", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)")]
        state = imap.tagged("e", "STATUS INBOX (UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")[0]
    server.restart()
    with opened(server, user) as imap:
        after = imap.tagged("d", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)")
        assert [line.replace(" \\Recent", "").replace("\\Recent", "") for line in after[:-1]] == [
            line.replace(" \\Recent", "").replace("\\Recent", "") for line in before[:-1]
        ]
        assert imap.tagged("e", "STATUS INBOX (UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")[0] == state
        eventually("the copy", lambda: "* 1 EXISTS" in imap.tagged("f", "SELECT kept"))
