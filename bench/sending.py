"""Bulk mail to 50 sites on loopback: `bench/run send` and `bench/run first`.

The engine, its sites and what they are compared with are one program, `crates/outbox/examples/send`; each step is a
process of its own, so that memory and CPU are the step's. Both references are taken in the same go: what one core
signs, and our client with ready-made mails. N (1000000) deliveries; BENCH_DATA is where the store lives; PROFILE
(release) may be dev, to see that it works.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import wanted

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("BENCH_DATA", "/var/tmp/postroom-bench")) / "send"
N = int(os.environ.get("N", 1_000_000))
# Enough to last a while; the sites are the same.
READY_MADE = max(1000, N // 5)
SAMPLES = int(os.environ.get("SAMPLES", 3000))
PROFILE = os.environ.get("PROFILE", "release")
PORT = 20525


def program() -> Path:
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--profile", PROFILE, "--package", "postroom-outbox",
                    "--example", "send"], cwd=ROOT, check=True)  # fmt: skip
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / ("debug" if PROFILE == "dev" else PROFILE) / "examples/send"


def figures(lines: str) -> dict[str, float]:
    return {word: float(value) for word, value in re.findall(r"^(\w+) ([\d.]+)$", lines, re.MULTILINE)}


class Sites:
    """All sites, as long as it is entered; what they counted is in `counts` then."""

    def __init__(self, binary: Path, deferred: int = 0, bounced: int = 0) -> None:
        self.command = [binary, "sink", str(PORT), str(deferred), str(bounced)]
        self.counts: dict[str, float] = {}
        self.output = ""

    def __enter__(self) -> "Sites":
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("listening"):
            raise RuntimeError("the sites do not listen")
        # What they say is more than a pipe holds, and who cannot say it takes no mail.
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.lines.extend, args=(self.process.stdout,))
        self.reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.reader.join()
        self.process.wait()
        self.output = "".join(self.lines)
        self.counts = figures(self.output)


def run(binary: Path, *arguments: object) -> str:
    return subprocess.run([binary, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True).stdout


def signing_rate() -> float:
    """RSA-2048 signatures that one core makes in a second."""
    command = ["openssl", "speed", "-seconds", "5", "rsa2048"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"^rsa\s+2048 bits\s+\S+\s+\S+\s+([\d.]+)", out, re.MULTILINE)[1])


def fill(binary: Path) -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    kind = subprocess.run(["stat", "-f", "-c", "%T", DATA], capture_output=True, text=True, check=True).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        sys.exit(f"bench/run: {DATA} is not on a disk; set BENCH_DATA")
    took = figures(run(binary, "fill", DATA, N))["seconds"]
    print(f"{N:,} deliveries enqueued in {took:.0f} s", flush=True)


def send() -> None:
    binary = program()
    signing = signing_rate()
    with Sites(binary) as sites:
        client = READY_MADE / figures(run(binary, "reference", PORT, READY_MADE))["seconds"]
    assert sites.counts["taken"] == READY_MADE, sites.counts
    lower = min(signing, client)
    print(f"one core signs {signing:,.0f} RSA-2048 a second; our client writes {client:,.0f} ready-made mails a second")
    print("| work | a second | of the lower reference | CPU a delivery | ready | waiting | most | on disk, each | not reached |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name, deferred, bounced, least in [("all taken", 0, 0, "≥ 0.5 ×"), ("5 % deferred, 1 % bounced", 5, 1, "≥ 0.4 ×")]:
        fill(binary)
        with Sites(binary, deferred, bounced) as sites:
            found = figures(run(binary, "drain", DATA, PORT, N))
        # What was put off may come again before the last has had its first attempt; of those a few are under way at the end.
        again = sum(sites.counts.values()) - N
        under_way = sites.counts["taken"] - found["delivered"]
        assert 0 <= under_way <= again if deferred else again == under_way == 0, (found, sites.counts)
        what, rate = f"send {N:,}, {name}", N / found["seconds"]
        wishes = {"a second": (least, None, rate / lower), "ready, s": ("≤ 5", found["ready"], None),
                  "waiting, MB": ("≤ 200", found["waiting_kb"] / 1024, None),
                  "on disk, octets": ("≤ 300", found["octets"] / N, None)}  # fmt: skip
        missed = [part for part, (wish, *figure) in wishes.items() if wanted.reached(f"{what}: {part}", wish, *figure) == "no"]
        print(f"| {what} | {rate:,.0f} | {rate / lower:.2f} × ({least}) | {found['cpu_seconds'] / N * 1000:.2f} ms | "
              f"{found['ready']:.2f} s (≤ 5) | {found['waiting_kb'] / 1024:.0f} MB (≤ 200) | {found['most_kb'] / 1024:.0f} MB | "
              f"{found['octets'] / N:.0f} octets (≤ 300) | {', '.join(missed) or '–'} |", flush=True)  # fmt: skip
    shutil.rmtree(DATA, ignore_errors=True)


def first() -> None:
    binary = program()
    fill(binary)
    with Sites(binary) as sites:
        out = run(binary, "first", DATA, PORT, SAMPLES)
    when = {word: dict(re.findall(rf"^{word} (\d+) (\d+)$", text, re.MULTILINE))
            for word, text in [("accepted", out), ("first", sites.output)]}  # fmt: skip
    missing = when["accepted"].keys() - when["first"].keys()
    assert not missing and len(when["accepted"]) == SAMPLES, f"{len(missing)} had no attempt"
    # It may be on its way before we hear that it is accepted.
    waits = sorted(max(0, int(when["first"][n]) - int(at)) / 1000 for n, at in when["accepted"].items())
    half, most, last = waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1]
    meanwhile = figures(out)["meanwhile"]
    print(f"first attempt of a transactional message while {N:,} of marketing wait and run: median {half:.1f} ms, "
          f"p99 {most:.1f} ms (wanted: 100), at most {last:.1f} ms; {meanwhile:,.0f} went out meanwhile")  # fmt: skip
    wanted.reached("first attempt of a transactional message, p99 in ms", "≤ 100", most)
    shutil.rmtree(DATA, ignore_errors=True)
