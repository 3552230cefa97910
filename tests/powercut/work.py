"""The work during which the power may fail: clients that note in the ledger what they were promised."""

import base64
import json
import poplib
import random
import re
import smtplib
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mail import message
from postroom import DOMAIN, PASSWORD, Closed, Dialogue, Failed, Server, user
from powercut.ledger import Kept, Ledger, Life
from powercut.look import fetched, mailboxes, signed_in, token_of, waiting
from powercut.sink import ELSEWHERE

# Mail comes to all; the last is read by IMAP, the others by POP3.
ACCOUNTS = [user(n) for n in range(3)]
FETCHED, FILED = ACCOUNTS[:-1], ACCOUNTS[-1]
# Sends mail elsewhere, and gets only reports.
WRITER = user(3)
FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "$Label1"]
SENDERS, WRITERS = 5, 2
# All work so long, then rest so long: SQLite begins its log anew only when all of it has been copied.
WORK_SECONDS, REST_SECONDS = 0.8, 0.7
# What a client meets when the server dies: its work ends there.
OVER = (OSError, EOFError, Closed, Failed, smtplib.SMTPException, poplib.error_proto, subprocess.SubprocessError)


class Work:
    """Clients at work on one run of the server, until `enough` says so or the server is dead."""

    def __init__(self, server: Server, ledger: Ledger, name: str, seed: int):
        self.server, self.ledger, self.name = server, ledger, name
        self.chance = random.Random(seed)
        self.stop, self.awake = threading.Event(), threading.Event()

    def run(self, enough: Callable[[], bool]) -> None:
        clients = [self.send] * SENDERS + [self.write] * WRITERS
        clients += [self.look_after_queue, self.fetch, self.file, self.add_accounts]
        with ThreadPoolExecutor(len(clients)) as pool:
            running = [
                pool.submit(self._one, client, f"{self.name}-{n}", random.Random(self.chance.random()))
                for n, client in enumerate(clients)
            ]
            while not enough() and not all(each.done() for each in running):
                rest = time.monotonic() % (WORK_SECONDS + REST_SECONDS) > WORK_SECONDS
                self.awake.clear() if rest else self.awake.set()
                time.sleep(0.02)
            self.stop.set()
            self.awake.set()
            for each in running:
                each.result(60)

    def _one(self, client, name: str, chance: random.Random) -> None:
        try:
            client(name, chance)
        except OVER:
            if not self.stop.is_set() and not self._dead():
                raise

    def _dead(self) -> bool:
        try:
            self.server.process.wait(5)
            return True
        except subprocess.TimeoutExpired:
            return False

    def _pause(self, seconds: float) -> bool:
        """Between two things that a client does; false when it shall end."""
        self.awake.wait(5)
        return not self.stop.wait(seconds)

    # -- the clients ------------------------------------------------------------------------------------------------

    def send(self, name: str, chance: random.Random) -> None:
        port = chance.choice(["smtp", "lmtp"])
        with self.server.connect(port) as smtp:
            smtp.reply()
            smtp.ask("LHLO client.test" if port == "lmtp" else "EHLO client.test", "250")
            sent = 0
            while self._pause(0):
                sent += 1
                self._send_one(smtp, f"{name}-{sent}", chance, port)
                del smtp.said[:]

    def _send_one(self, smtp, token: str, chance: random.Random, port: str) -> None:
        to = chance.sample(ACCOUNTS, chance.choice([1, 1, 2]))
        raw = mail(token, chance)
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        for each in to:
            smtp.ask(f"RCPT TO:<{each}>", "250")
        smtp.ask("DATA", "354")
        steps = self.ledger.arriving(token, raw, to)
        smtp.socket.sendall(raw + b".\r\n")
        # LMTP answers for each recipient (RFC 2033 §4.2).
        for step in [[step] for step in steps] if port == "lmtp" else [steps]:
            smtp.expect("250")
            self.ledger.done(step)

    def write(self, name: str, chance: random.Random) -> None:
        """Submits mail for elsewhere, some of it to accounts of ours too."""
        with self.server.connect("submission") as smtp:
            smtp.reply()
            smtp.ask("EHLO client.test", "250")
            login = base64.b64encode(f"\0{WRITER}\0{PASSWORD}".encode()).decode()
            smtp.ask(f"AUTH PLAIN {login}", "235")
            sent = 0
            while self._pause(0.02):
                sent += 1
                self._write_one(smtp, f"{name}-{sent}", chance)
                del smtp.said[:]

    def _write_one(self, smtp: Dialogue, token: str, chance: random.Random) -> None:
        kinds = chance.choice([["good"], ["good"], ["good", "good"], ["good", "bad"], ["told"], ["slow"], ["slow"]])
        # What stays long in the queue shares its bytes with mailboxes, from which it goes before.
        ours = chance.sample(ACCOUNTS, 1 if kinds == ["slow"] else chance.choice([0, 0, 1, 2]))
        # A failure is reported always, a success where that is asked for (RFC 3461 §4.1).
        away = {f"{kind}-{token}-{n}@{ELSEWHERE}": int(kind in ("bad", "told")) for n, kind in enumerate(kinds)}
        raw = mail(token, chance)
        smtp.ask(f"MAIL FROM:<{WRITER}>", "250")
        for each in [*away, *ours]:
            smtp.ask(f"RCPT TO:<{each}>" + " NOTIFY=SUCCESS,FAILURE" * each.startswith("told"), "250")
        smtp.ask("DATA", "354")
        steps = self.ledger.arriving(token, raw, ours) + self.ledger.departing(token, raw, away)
        smtp.socket.sendall(raw + b".\r\n")
        smtp.expect("250")
        self.ledger.done(steps)

    def look_after_queue(self, name: str, chance: random.Random) -> None:
        """Looks what is still in the queue, and takes back some of what the host puts off."""
        while self._pause(0.2):
            known = [to for to, mail in list(self.ledger.leaving.items()) if mail.accepted.done is not None]
            found = waiting(self.server)
            self.ledger.seen_gone(known, set(found))
            for to, delivery in found.items():
                if to.startswith("slow") and chance.random() < 0.1:
                    self._cancel(to, delivery["id"])

    def _cancel(self, to: str, number: str) -> None:
        (step,) = self.ledger.begin([(Life(), None)])
        self.ledger.leaving[to].cancelled = step
        # One that is just being tried goes on.
        if json.loads(self.server.cli("--json", "queue", "cancel", number))["cancelled"]:
            self.ledger.done([step])

    def fetch(self, name: str, chance: random.Random) -> None:
        """Deletes about half of what is in some mailbox; only QUIT makes it so (RFC 1939 §6)."""
        while self._pause(0.1):
            account = chance.choice(FETCHED)
            client = self.server.pop3(account)
            count = client.stat()[0]
            chosen = sorted(chance.sample(range(1, count + 1), count // 2))
            tokens = [token_of(b"\r\n".join(client.top(number, 0)[1])) for number in chosen]
            for number in chosen:
                client.dele(number)
            steps = self.ledger.begin([(self.ledger.mails[account][token], None) for token in tokens])
            client.quit()
            self.ledger.done(steps)

    def file(self, name: str, chance: random.Random) -> None:
        """Appends, flags, moves and expunges; makes mailboxes and deletes them."""
        with signed_in(self.server, FILED) as imap:
            if "Filed" not in mailboxes(imap):
                self._mailbox(imap, "CREATE", "Filed")
            turn = 0
            while self._pause(0.02):
                turn += 1
                if turn % 5 == 0:
                    self._mailbox(imap, "CREATE", f"{name}-{turn}")
                if turn % 10 == 0:
                    self._mailbox(imap, "DELETE", f"{name}-{turn}")
                self._append(imap, f"{name}-{turn}", chance)
                self._tidy(imap, chance)
                del imap.said[:]

    def _mailbox(self, imap: Dialogue, verb: str, mailbox: str) -> None:
        steps = self.ledger.naming("mailbox", mailbox, there=verb == "CREATE")
        imap.tagged("box", f"{verb} {mailbox}")
        self.ledger.done(steps)

    def _append(self, imap: Dialogue, token: str, chance: random.Random) -> None:
        mailbox, flags = chance.choice(["INBOX", "Filed"]), chance.sample(FLAGS, chance.randrange(3))
        raw = mail(token, chance)
        steps = self.ledger.arriving(token, raw, [FILED], Kept(mailbox, frozenset(flags)))
        imap.raw(b"new APPEND %s (%s) {%d+}\r\n" % (mailbox.encode(), " ".join(flags).encode(), len(raw)))
        imap.socket.sendall(raw + b"\r\n")
        imap.until("new")
        self.ledger.done(steps)

    def _tidy(self, imap: Dialogue, chance: random.Random) -> None:
        """Flags some mails of a mailbox; then moves some to Filed, or expunges some there."""
        mailbox = chance.choice(["INBOX", "Filed"])
        imap.tagged("open", f"SELECT {mailbox}")
        tokens, states = {}, {}
        for uid, flags, head in fetched(imap, "BODY.PEEK[HEADER]"):
            tokens[uid], states[uid] = token_of(head), Kept(mailbox, flags)
            self.ledger.uid(FILED, tokens[uid], mailbox, uid)

        def change(command: str, becomes: dict[int, Kept | None]) -> None:
            if becomes:
                lives = self.ledger.mails[FILED]
                steps = self.ledger.begin([(lives[tokens[uid]], state) for uid, state in becomes.items()])
                imap.tagged("do", "UID " + command.format(",".join(map(str, becomes))))
                self.ledger.done(steps)
                states.update(becomes)

        def some() -> list[int]:
            return chance.sample(sorted(states), len(states) // 4)

        def store(sign: str, flag: str, chosen: list[int]) -> None:
            flags = {uid: states[uid].flags | {flag} if sign == "+" else states[uid].flags - {flag} for uid in chosen}
            becomes = {uid: Kept(mailbox, has) for uid, has in flags.items()}
            change(f"STORE {{}} {sign}FLAGS.SILENT ({flag})", becomes)

        store(chance.choice("+-"), chance.choice(FLAGS), some())
        if mailbox == "INBOX":
            change("MOVE {} Filed", {uid: Kept("Filed", states[uid].flags) for uid in some()})
        else:
            gone = some()
            store("+", "\\Deleted", gone)
            change("EXPUNGE {}", dict.fromkeys(gone))

    def add_accounts(self, name: str, chance: random.Random) -> None:
        added = 0
        while self._pause(0.2):
            added += 1
            address = f"{name}-{added}@{DOMAIN}"
            steps = self.ledger.naming("account", address)
            self.server.cli("account", "add", address, "--password-stdin", stdin=PASSWORD)
            self.ledger.done(steps)


def mail(token: str, chance: random.Random) -> bytes:
    """Mostly small; one in forty is so large that it goes to a pack of its own."""
    octets = chance.randrange(300_000, 500_000) if chance.random() < 1 / 40 else chance.choice([20, 1000, 5000, 20_000])
    body = re.sub("(.{70})", r"\1\r\n", f"{token}:{chance.randrange(1 << 60)} " * (octets // 25))
    return message("power cut", body + "\r\n", f"X-Token: {token}\r\n")
