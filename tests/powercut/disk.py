"""A model of a disk that loses power: reads the log of preload.c and rebuilds what may be there after a cut.

What a sync covered is there. Of the rest anything may be: a change is kept, dropped, or torn, sector by sector, and a
later one may be kept while an earlier one is not. A file's sync makes its bytes and its length durable, not its name;
a name is durable when its directory was synced. One sector (512 octets) is written whole or not at all, and a rename is
one change: both of these are what disks and file systems promise.

    python3 disk.py LOG PLACE SEED DIRECTORY [LIES FROM]      rebuilds one cut, to look at it
"""

import fnmatch
import mmap
import os
import random
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
RECORD = struct.Struct("<IIQQ")


@dataclass
class Change:
    """What a program did to a file: bytes at a place, or a new length."""

    number: int
    offset: int
    data: bytes | None
    """None: the file ends at `offset` from here on; what it gains is zeroes."""

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            resize(content, self.offset)
        else:
            if len(content) < self.offset:
                resize(content, self.offset)
            content[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> range:
        if self.data is None:
            return range(0)
        return range(self.offset // SECTOR, (self.offset + len(self.data) - 1) // SECTOR + 1)


@dataclass
class Naming:
    """A change of names, in one or two directories, that is done whole or not at all."""

    number: int
    effects: list[tuple["Directory", str, "Node | None"]]


class Node:
    """A file, a directory or a socket."""


class Socket(Node):
    pass


@dataclass(eq=False)
class File(Node):
    name: str
    cached: bytearray = field(default_factory=bytearray)
    """What a program reads."""
    durable: bytearray = field(default_factory=bytearray)
    """What a cut cannot take, unless a pending change does."""
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        change.apply(self.cached)
        self.pending.append(change)

    def synced(self, before: int) -> None:
        while self.pending and self.pending[0].number < before:
            self.pending.pop(0).apply(self.durable)

    def after_cut(self, fate: "Fate") -> bytes:
        if self.name.endswith("-shm"):
            # SQLite's index of its log is mapped memory: anything may be on the disk, and nothing may depend on it.
            return fate.chance.randbytes(len(self.cached))
        if not self.pending:
            return bytes(self.durable)
        disk, memory, length = bytearray(self.durable), bytearray(self.durable), len(self.durable)
        for change in self.pending:
            grew = -len(memory)
            change.apply(memory)
            grew += len(memory)
            kept = [sector for sector in change.sectors() if fate.keeps_sector(change.number, sector)]
            # A sector comes from memory as it was at that moment: with what earlier changes did to it.
            for sector in kept:
                put(disk, sector * SECTOR, memory[sector * SECTOR : (sector + 1) * SECTOR])
            if change.data is None:
                if fate.keeps(change.number):
                    resize(disk, min(len(disk), change.offset))
                    length = change.offset
            elif grew > 0 and (covers := fate.length(change.number, kept, len(memory))) is not None:
                length = max(length, covers)
        resize(disk, length)
        return bytes(disk)


def resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


def put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        resize(content, offset)
    content[offset : offset + len(data)] = data


class Directory(Node):
    def __init__(self, name: str = ""):
        self.name = name + "/"
        self.cached: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.pending: list[Naming] = []

    @classmethod
    def read(cls, path: Path) -> "Directory":
        """What is there, all of it durable."""
        made = cls(path.name)
        for entry in path.iterdir():
            if entry.is_dir():
                made.durable[entry.name] = cls.read(entry)
            elif entry.is_socket():
                made.durable[entry.name] = Socket()
            else:
                content = entry.read_bytes()
                made.durable[entry.name] = File(entry.name, bytearray(content), bytearray(content))
        made.cached = dict(made.durable)
        return made

    def after_cut(self, fate: "Fate") -> dict[str, Node]:
        names = dict(self.durable)
        for naming in self.pending:
            if fate.keeps(naming.number):
                name_all(names, self, naming)
        return names


def name_all(names: dict[str, Node], directory: Directory, naming: Naming) -> None:
    for where, name, node in naming.effects:
        if where is directory:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node


class Fate:
    """Decides, from one seed, what becomes of each change that no sync had covered at a cut."""

    MOODS = {"nothing": 15, "everything": 10, "in order": 15, "by change": 30, "by sector": 30}

    def __init__(self, seed: str, disk: "Disk"):
        self.chance = random.Random(seed)
        self.mood = self.chance.choices(list(self.MOODS), self.MOODS.values())[0]
        self.rate = self.chance.choice([0.1, 0.5, 0.9])
        self.until = 0
        if self.mood == "in order":
            self.until = self.chance.choice(disk.pending_numbers() or [0])
        self.kept: dict[int, str] = {}

    def __str__(self) -> str:
        return f"{self.mood}, {self.rate}"

    def _one(self, number: int) -> str:
        """Of one change: "all", "none", or "part" of its sectors."""
        if number not in self.kept:
            self.kept[number] = self._choose(number)
        return self.kept[number]

    def _choose(self, number: int) -> str:
        match self.mood:
            case "nothing":
                return "none"
            case "everything":
                return "all"
            case "in order":
                return "all" if number < self.until else "part" if number == self.until else "none"
            case "by change":
                if self.chance.random() < 0.15:
                    return "part"
                return "all" if self.chance.random() < self.rate else "none"
            case _:
                return "part"

    def keeps(self, number: int) -> bool:
        """A change that is done whole or not at all."""
        one = self._one(number)
        return one == "all" or (one == "part" and self.chance.random() < self.rate)

    def keeps_sector(self, number: int, sector: int) -> bool:
        one = self._one(number)
        return one == "all" or (one == "part" and self.chance.random() < self.rate)

    def length(self, number: int, kept: list[int], whole: int) -> int | None:
        """How long a file is that a change made longer; None: no longer than before."""
        match self._one(number):
            case "all":
                return whole
            case "none":
                # The length may reach the disk without the bytes: they read as zeroes.
                return whole if self.mood != "nothing" and self.chance.random() < 0.1 else None
        up_to = min(whole, (max(kept, default=-1) + 1) * SECTOR)
        return self.chance.choice([None, up_to, up_to, whole])


class Log:
    """The records of a log; a place in it is the number of octets before it."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.end = len(self.bytes)

    def records(self, start: int = 0) -> Iterator[tuple[int, str, int, int, bytes]]:
        """Where each ends, its kind, inode, value and payload."""
        at = start
        while at < self.end:
            size, kind, inode, value = RECORD.unpack_from(self.bytes, at)
            payload = self.bytes[at + RECORD.size : at + size]
            at += size
            yield at, chr(kind), inode, value, payload


class Disk:
    """Replays a log up to any place of it, forwards only."""

    def __init__(self, holds: Path | None = None, lies: str | None = None, lies_from: int = 0):
        """`holds`: a directory with what the disk held when the log began.

        A disk that lies says yes to a sync of what has a name like `lies` (`*-wal`, `packs/`), and does nothing, from a
        place in the log on.
        """
        self.lies, self.lies_from = lies, lies_from
        self.at = 0
        self.number = 0
        self.root = Directory.read(holds) if holds else Directory()
        self.nodes: dict[int, Node] = {}
        self.begun: dict[int, tuple[Node | None, int]] = {}

    def replay(self, log: Log, place: int) -> None:
        """Takes the records that end at or before `place`, from where the last call ended."""
        for end, kind, inode, value, payload in log.records(self.at):
            if end > place:
                break
            self.at = end
            self.number += 1
            self._take(kind, inode, value, payload)

    def _take(self, kind: str, inode: int, value: int, payload: bytes) -> None:
        match kind:
            case "O" | "K":
                self._open(inode, payload.decode(), value == 1, kind)
            case "W":
                self._file(inode).change(Change(self.number, value, payload))
            case "T":
                self._file(inode).change(Change(self.number, value, None))
            case "A":
                file = self._file(inode)
                if value > len(file.cached):
                    file.change(Change(self.number, value, None))
            case "B":
                self.begun[value] = (self.nodes.get(inode), self.number)
            case "S":
                self._synced(*self.begun.pop(value))
            case "M":
                self.nodes[inode] = Directory(payload.decode().rpartition("/")[2])
                self._name(payload.decode(), self.nodes[inode])
            case "U":
                self._name(payload.decode(), None)
            case "R" | "L":
                old, new = payload.decode().split("\0")
                node = self._look(old)
                self._name(*([new, node] if kind == "L" else [old, None, new, node]))
            case _:
                raise ValueError(f"no such record: {kind!r} before {self.at}")

    def _open(self, inode: int, path: str, made: bool, kind: str) -> None:
        if kind == "K":
            self._name(path, Socket())
        elif made:
            self.nodes[inode] = File(path.rpartition("/")[2])
            self._name(path, self.nodes[inode])
        elif known := self._look(path):
            self.nodes[inode] = known

    def _file(self, inode: int) -> File:
        return self.nodes[inode]

    def _look(self, path: str) -> Node | None:
        """None: what was there before the log began, and is not ours."""
        node = self.root
        for name in filter(None, path.split("/")):
            node = node.cached.get(name) if isinstance(node, Directory) else None
        return node

    def _name(self, *changes) -> None:
        """Names a node (or nothing) at each path, as one change: path, node, path, node…"""
        effects = []
        for path, node in zip(changes[::2], changes[1::2]):
            parent, _, name = path.rpartition("/")
            effects.append((self._look(parent), name, node))
        naming = Naming(self.number, effects)
        for directory in {id(where): where for where, _, _ in effects}.values():
            name_all(directory.cached, directory, naming)
            directory.pending.append(naming)

    def _synced(self, node: Node | None, before: int) -> None:
        if node and self.lies and self.at >= self.lies_from and fnmatch.fnmatch(node.name, self.lies):
            return
        match node:
            case File():
                node.synced(before)
            case Directory():
                for naming in [naming for naming in node.pending if naming.number < before]:
                    # A rename between two directories is done by the sync of either.
                    for directory in {id(where): where for where, _, _ in naming.effects}.values():
                        name_all(directory.durable, directory, naming)
                        directory.pending.remove(naming)

    def pending_numbers(self) -> list[int]:
        """The numbers of all changes that no sync has covered, in order."""
        found = set()
        for node in {id(node): node for node in [self.root, *self.nodes.values()]}.values():
            found.update(change.number for change in node.pending)
        return sorted(found)

    def rebuild(self, directory: Path, seed: str) -> Fate:
        """Cuts the power here and writes what is left below `directory`, which exists."""
        fate = Fate(seed, self)
        todo: list[tuple[Directory, Path]] = [(self.root, directory)]
        while todo:
            node, path = todo.pop()
            for name, child in sorted(node.after_cut(fate).items()):
                match child:
                    case Directory():
                        (path / name).mkdir(mode=0o700)
                        todo.append((child, path / name))
                    case Socket():
                        os.mknod(path / name, stat.S_IFSOCK | 0o600)
                    case File():
                        (path / name).write_bytes(child.after_cut(fate))
        return fate

    def differences(self, directory: Path) -> list[str]:
        """Where the files of the log are not those below `directory`: then the log does not tell all."""
        found: list[str] = []
        todo: list[tuple[Directory, Path]] = [(self.root, directory)]
        while todo:
            node, path = todo.pop()
            there = {entry.name for entry in path.iterdir()}
            if node is not self.root:
                found += [f"{path / name}: in one only" for name in there ^ set(node.cached)]
            for name, child in node.cached.items():
                match child:
                    case Directory():
                        todo.append((child, path / name))
                    case File() if name in there and not name.endswith("-shm"):
                        if (path / name).read_bytes() != child.cached:
                            found.append(f"{path / name}: differs")
        return found


def main() -> None:
    log, place, seed, directory = sys.argv[1:5]
    disk = Disk(lies=sys.argv[5], lies_from=int(sys.argv[6])) if len(sys.argv) > 5 else Disk()
    disk.replay(Log(Path(log)), int(place))
    Path(directory).mkdir(parents=True)
    print(disk.rebuild(Path(directory), seed))


if __name__ == "__main__":
    main()
