"""Another organisation's host: takes mail, or answers as it is told."""

import re
import socketserver
import ssl
import threading

from postroom import eventually, free_address

PORT = 20025


class Background:
    """What a server of `socketserver` is besides: it serves in a thread of its own, until it is left."""

    daemon_threads = True

    def begin(self) -> None:
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Host(Background, socketserver.ThreadingTCPServer):
    """Another organisation's host, which answers as it is told and keeps what it took."""

    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None = None, at: tuple[str, int] | None = None, **answers: str):
        self.address, port = at or (free_address(), PORT)
        self.answers = answers  # by verb, or "end" for the final dot
        self.tls = tls
        self.shown: list[bytes | None] = []  # the certificates of those who began TLS
        self.offers = ["PIPELINING", "8BITMIME", "SMTPUTF8"] + (["STARTTLS"] if tls else [])
        self.taken: list[tuple[str, list[str], bytes]] = []
        self.said: list[str] = []
        super().__init__((self.address, port), Conversation)
        self.begin()

    def answer(self, verb: str, line: str) -> str | None:
        """What this host says to a command in place of a good answer; "end" is the final dot."""
        return self.answers.get(verb)

    def take(self, sender: str, recipients: list[str], body: bytes) -> None:
        self.taken.append((sender, recipients, body))

    def has(self, count: int = 1):
        return eventually(f"{count} mails at the host", lambda: self.taken if len(self.taken) >= count else None, 60)

    def route(self, *domains: str) -> str:
        return "[routes]\n" + "".join(f'"{domain}" = "{self.address}:{PORT}"\n' for domain in domains)


class Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def say(self, verb: str, good: str, line: str = "") -> bool:
        """Answers; whether that was good."""
        other = self.server.answer(verb, line)
        self.wfile.write((good if other is None else other).encode("utf-8", "surrogateescape") + b"\r\n")
        return other is None

    def handle(self):
        sender, recipients = None, []
        self.say("greeting", "220 mx.peer.test ESMTP")
        while raw := self.rfile.readline():
            line = raw.decode().strip()
            self.server.said.append(line)
            verb, address = line.split(" ")[0].upper(), (re.search("<(.*?)>", line) or [None, ""])[1]
            if verb == "EHLO":
                *some, last = ["mx.peer.test", *self.server.offers]
                self.say(verb, "".join(f"250-{each}\r\n" for each in some) + f"250 {last}", line)
            elif verb == "MAIL":
                sender, recipients = (address if self.say(verb, "250 2.1.0 OK") else None), []
            elif verb == "RCPT" and sender is None:
                self.wfile.write(b"503 5.5.1 MAIL first\r\n")
            elif verb == "RCPT":
                if self.say(verb, "250 2.1.5 OK", line):
                    recipients.append(address)
            elif verb == "STARTTLS" and self.say(verb, "220 2.0.0 Go ahead"):
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                self.server.shown.append(self.request.getpeercert(binary_form=True))
                self.setup()
            elif verb == "AUTH":
                self.say(verb, "235 2.7.0 Welcome")
            elif verb == "QUIT":
                return self.wfile.write(b"221 2.0.0 Bye\r\n")
            elif verb != "DATA":
                self.say(verb, "250 2.0.0 OK")
            elif not recipients:
                self.wfile.write(b"554 5.5.1 No valid recipients\r\n")
            else:
                self.wfile.write(b"354 Go ahead\r\n")
                body = bytearray()
                while (part := self.rfile.readline()) != b".\r\n":
                    if not part:
                        return None
                    body += part.removeprefix(b".")
                if self.server.answer("end", "") is None:
                    self.server.take(sender, recipients, bytes(body))
                self.say("end", "250 2.0.0 Taken")
