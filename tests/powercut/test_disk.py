"""The model of the disk on logs written by hand: what it must keep, what it may lose, what it can never do."""

import tempfile
from pathlib import Path

import pytest

from powercut.disk import RECORD, SECTOR, Disk, Log

ROOT, FILE, OTHER = 1, 2, 3
SEEDS = range(300)


def written(path, *records) -> Log:
    with path.open("wb") as file:
        for kind, inode, value, payload in records:
            file.write(RECORD.pack(RECORD.size + len(payload), ord(kind), inode, value) + payload)
    return Log(path)


def synced(inode: int, number: int) -> list[tuple]:
    return [("B", inode, number, b""), ("S", inode, number, b"")]


OPENED = [("O", ROOT, 0, b"")]
MADE = [*OPENED, ("O", FILE, 1, b"file")]
NAMED = [*MADE, *synced(ROOT, 1)]


@pytest.fixture
def outcomes(tmp_path):
    """All that may be left after the records: what each file holds, for each of many seeds."""

    def run(*records, holds: dict[str, bytes] | None = None) -> set[tuple[tuple[str, bytes], ...]]:
        run_in = Path(tempfile.mkdtemp(dir=tmp_path))
        log = written(run_in / "log", *records)
        (run_in / "holds").mkdir()
        for name, content in (holds or {}).items():
            (run_in / "holds" / name).write_bytes(content)
        disk = Disk(holds=run_in / "holds")
        disk.replay(log, log.end)
        found = set()
        for seed in SEEDS:
            there = run_in / str(seed)
            there.mkdir()
            disk.rebuild(there, str(seed))
            found.add(tuple(sorted((file.name, file.read_bytes()) for file in there.iterdir())))
        return found

    return run


def test_what_was_synced_is_there(outcomes):
    assert outcomes(*NAMED, ("W", FILE, 0, b"bytes"), *synced(FILE, 2)) == {(("file", b"bytes"),)}


def test_a_sync_of_a_file_is_no_sync_of_its_name(outcomes):
    assert outcomes(*MADE, ("W", FILE, 0, b"bytes"), *synced(FILE, 2)) == {(("file", b"bytes"),), ()}


def test_a_sync_that_has_only_begun_promises_nothing(outcomes):
    found = outcomes(*NAMED, ("W", FILE, 0, b"bytes"), ("B", FILE, 2, b""))
    assert found >= {(("file", b"bytes"),), (("file", b""),)}


def test_a_sync_does_not_cover_what_is_written_while_it_runs(outcomes):
    early, late = ("W", FILE, 0, b"a" * SECTOR), ("W", FILE, SECTOR, b"b" * SECTOR)
    found = {dict(each)["file"] for each in outcomes(*NAMED, early, ("B", FILE, 2, b""), late, ("S", FILE, 2, b""))}
    assert {content[:SECTOR] for content in found} == {b"a" * SECTOR}
    assert {content[SECTOR:] for content in found} == {b"", bytes(SECTOR), b"b" * SECTOR}


def test_a_write_is_torn_between_sectors_only(outcomes):
    old, new = b"a" * SECTOR, b"b" * SECTOR
    found = outcomes(*NAMED, ("W", FILE, 0, old * 3), *synced(FILE, 2), ("W", FILE, 0, new * 3))
    assert found == {(("file", a + b + c),) for a in (old, new) for b in (old, new) for c in (old, new)}


def test_a_later_write_may_be_kept_without_an_earlier_one(outcomes):
    old, first, second = b"-" * 2 * SECTOR, ("W", FILE, 0, b"1" * SECTOR), ("W", FILE, SECTOR, b"2" * SECTOR)
    found = outcomes(*NAMED, ("W", FILE, 0, old), *synced(FILE, 2), first, second)
    assert (("file", b"-" * SECTOR + b"2" * SECTOR),) in found


def test_a_sector_is_kept_with_all_that_was_written_to_it(outcomes):
    found = outcomes(*NAMED, ("W", FILE, 0, b"...."), *synced(FILE, 2), ("W", FILE, 0, b"1"), ("W", FILE, 2, b"2"))
    assert found == {(("file", content),) for content in (b"....", b"1...", b"1.2.")}


def test_a_file_may_be_longer_without_its_bytes(outcomes):
    found = outcomes(*NAMED, ("W", FILE, 0, b"x" * SECTOR))
    assert found == {(("file", content),) for content in (b"", bytes(SECTOR), b"x" * SECTOR)}


def test_a_truncation_may_not_have_happened(outcomes):
    found = outcomes(*NAMED, ("W", FILE, 0, b"long"), *synced(FILE, 2), ("T", FILE, 1, b""))
    assert found == {(("file", b"long"),), (("file", b"l"),)}


def test_a_rename_is_done_or_not_and_never_half(outcomes):
    moved = [("O", OTHER, 1, b"part"), ("W", OTHER, 0, b"new"), *synced(OTHER, 2)]
    found = outcomes(*NAMED, ("W", FILE, 0, b"old"), *synced(FILE, 3), *moved, *synced(ROOT, 4),
                     ("R", OTHER, 0, b"part\0file"))  # fmt: skip
    assert found == {(("file", b"old"), ("part", b"new")), (("file", b"new"),)}


def test_a_file_that_was_deleted_may_be_back(outcomes):
    assert outcomes(*NAMED, ("U", 0, 0, b"file")) == {(("file", b""),), ()}
    assert outcomes(*NAMED, ("U", 0, 0, b"file"), *synced(ROOT, 2)) == {()}


def test_an_inode_that_is_used_again_is_another_file(outcomes):
    again = [("W", FILE, 0, b"first"), *synced(FILE, 2), ("U", 0, 0, b"file"), ("O", FILE, 1, b"other")]
    found = outcomes(*NAMED, *again, *synced(ROOT, 3), ("W", FILE, 0, b"second"), *synced(FILE, 4))
    assert found == {(("other", b"second"),)}


def test_what_the_disk_held_before_the_log_began_stays(outcomes):
    assert outcomes(*OPENED, ("O", FILE, 0, b"file"), holds={"file": b"held"}) == {(("file", b"held"),)}


def test_a_disk_that_lies_loses_what_was_synced(tmp_path):
    log = written(tmp_path / "log", *NAMED, ("W", FILE, 0, b"x"), *synced(FILE, 2))
    disk = Disk(lies="f*")
    disk.replay(log, log.end)
    assert disk.pending_numbers()
