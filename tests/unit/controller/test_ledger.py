from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from rlx.controller.groups.ledger import Ledger, LedgerRow
from rlx.controller.groups.resume import complete, open_groups, plan_resume, reconcile
from rlx.controller.groups.staleness import Window
from rlx.controller.records import checkpoint
from rlx.controller.records.checkpoint import SavedState
from rlx.errors import RunError
from rlx.fingerprint import Fingerprint
from rlx.transport.messages import GroupDone


@pytest.fixture
def make_ledger(tmp_path):
    opened = []

    def make(*, resume: bool = False, on_error=lambda error: pytest.fail(str(error))) -> Ledger:
        opened.append(Ledger(tmp_path / "ledger.sqlite", on_error=on_error, resume=resume))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def done(group_id: int, oldest: int = 0) -> GroupDone:
    return GroupDone(group_id, "train", 0, oldest, 1, 1, [0.5], [None], {"r": 0.5}, [1], 0, {}, 0.1, 0.2, b"episodes")


def states(ledger: Ledger) -> dict[int, str]:
    return {row.group_id: row.state for row in ledger.rows()}


def test_the_ledger_records_the_state_of_every_group(make_ledger):
    ledger = make_ledger()
    for group_id in range(4):
        ledger.lease(group_id, row=group_id * 10, version=1)
    for group_id in (0, 1):
        ledger.finish(done(group_id, oldest=1), newest=2)
    ledger.train([0], step=2, keep_payloads=True)
    ledger.drop(3, "no reward")
    ledger.flush()
    assert states(ledger) == {0: "trained", 1: "finished", 2: "leased", 3: "dropped"}
    assert ledger.counts() == {"trained": 1, "finished": 1, "leased": 1, "dropped": 1}
    assert ledger.rows()[1] == LedgerRow(1, 10, "finished", 1, 1, 2, None, None, True)
    assert ledger.rows()[3].why == "no reward"
    assert ledger.stored(0) == done(0, oldest=1)


def test_payloads_are_purged_once_a_checkpoint_covers_their_step(make_ledger):
    ledger = make_ledger()
    for group_id in range(3):
        ledger.lease(group_id, 0, 0)
        ledger.finish(done(group_id), 0)
    ledger.train([0], step=0, keep_payloads=True)
    ledger.train([1], step=1, keep_payloads=True)
    ledger.purge(1)
    ledger.flush()
    assert [ledger.stored(group_id) for group_id in range(3)] == [None, done(1), done(2)]
    ledger.train([2], step=2, keep_payloads=False)
    ledger.flush()
    assert ledger.stored(2) is None


def test_a_failed_write_is_reported_once_and_remembered(make_ledger):
    errors = []
    ledger = make_ledger(on_error=errors.append)
    ledger.flush()
    ledger._connection.execute("PRAGMA query_only = ON")
    ledger.lease(0, 0, 0)
    with pytest.raises(RunError, match="cannot be written"):
        ledger.flush()
    assert len(errors) == 1


def test_a_run_does_not_overwrite_the_ledger_of_another(make_ledger):
    make_ledger().close()
    with pytest.raises(RunError, match="the run directory belongs to another run"):
        make_ledger()


def test_a_ledger_of_a_newer_rlx_is_refused(make_ledger, tmp_path):
    make_ledger().close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(RunError, match="format 99"):
        make_ledger(resume=True)


def at_checkpoint(
    version: int, frontier: int, groups: int, untrained: list[int] | None, dropped: int = 0
) -> SavedState:
    return SavedState(version, frontier, groups, Fingerprint(1, ["f"]), dropped, 1.0, untrained=untrained)


def row_0(group_id: int) -> int:
    return 0


def test_a_synchronous_resume_discards_groups_after_the_checkpoint(make_ledger):
    ledger = make_ledger()
    for group_id in range(6):
        ledger.lease(group_id, 0, group_id // 2)
        ledger.finish(done(group_id), 0)
    for step in range(3):
        ledger.train([2 * step, 2 * step + 1], step=step, keep_payloads=True)
    window = Window(max_staleness=0, groups_per_step=2, steps=9, trained=2)
    assert reconcile(ledger, window, at_checkpoint(1, 2, 2, []), row_of=row_0) == {}
    assert states(ledger) == {0: "trained", 1: "trained"}
    assert [window.lease(1), window.lease(1)] == [2, 3]
    assert window.room(1) == 0


@pytest.mark.parametrize("legacy", [False, True])
def test_a_resume_with_staleness_keeps_groups_that_are_still_usable(make_ledger, legacy):
    ledger = make_ledger()
    versions = {0: (0, 0), 1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 1), 5: (2, 2)}
    for group_id, (lease_version, newest) in versions.items():
        ledger.lease(group_id, 0, lease_version)
        ledger.finish(done(group_id, lease_version), newest)
    ledger.lease(6, 0, 1)
    ledger.train([0, 1], step=0, keep_payloads=True)
    ledger.train([2, 4], step=1, keep_payloads=True)
    ledger.flush()
    window = Window(max_staleness=2, groups_per_step=2, steps=9, trained=2)
    state = at_checkpoint(1, 6, 2, None if legacy else [2, 3, 4, 5])
    finished = reconcile(ledger, window, complete(state, ledger.rows()) if legacy else state, row_of=row_0)
    assert sorted(finished) == [2, 4], "step 1 did not happen; 3 and 5 hold tokens of version 2, which is gone"
    assert [window.lease(1) for _ in range(window.room(1))] == [3, 5, 6, 7]
    assert window.pick(1, 1) == [2, 4]


def test_a_group_whose_episodes_are_not_stored_or_of_another_row_is_sampled_again(make_ledger):
    ledger, window = make_ledger(), Window(max_staleness=1, groups_per_step=2, steps=9)
    for group_id in range(2):
        ledger.lease(group_id, 0, 0)
        ledger.finish(done(group_id), 0, store=group_id == 1)
    assert reconcile(ledger, window, at_checkpoint(0, 0, 2, []), row_of=lambda group_id: group_id) == {}
    assert [window.lease(0) for _ in range(2)] == [0, 1]


def test_a_checkpoint_of_an_earlier_rlx_is_not_resumed_with_an_older_ledger(make_ledger):
    ledger = make_ledger()
    ledger.lease(0, 0, 0)
    ledger.flush()
    with pytest.raises(RunError, match="it has 0 groups of its steps, which have trained 2"):
        complete(at_checkpoint(1, 2, 2, None), ledger.rows())


@pytest.mark.parametrize("untrained", [[5], [3, 4, 5], [4, 4], [4, 7], [-1, 5]])
def test_a_checkpoint_whose_counts_do_not_agree_is_refused(untrained):
    assert open_groups(at_checkpoint(2, 6, 2, [4, 5])) == {4, 5}
    with pytest.raises(RunError, match="the checkpoint of step 2 contradicts itself"):
        open_groups(at_checkpoint(2, 6, 2, untrained))


@settings(max_examples=300)
@given(seed=st.integers(0, 10**9), version=st.integers(0, 4), k=st.integers(0, 3), groups=st.integers(1, 3))
def test_a_resume_loses_no_id_and_uses_none_twice_whatever_the_ledger_holds(seed, version, k, groups):
    rng = random.Random(seed)
    frontier = version * groups + rng.randrange(12)
    closed = set(rng.sample(range(frontier), rng.randrange(version * groups, frontier + 1)))
    untrained = sorted(set(range(frontier)) - closed)
    saved = at_checkpoint(version, frontier, groups, untrained, len(closed) - version * groups)
    rows = []
    for group_id in range(rng.randrange(40)):
        if rng.random() < 0.2:
            continue
        state = rng.choice(["leased", "finished", "trained", "dropped"])
        lease, step = rng.randrange(5), rng.randrange(6) if state == "trained" else None
        newest = lease + rng.randrange(3)
        rows.append(LedgerRow(group_id, 0, state, lease, lease, newest, step, None, rng.random() < 0.9))
    steps = version + rng.randrange(6)
    found = plan_resume(rows, saved, max_staleness=k, steps=steps)
    reuse = {row.group_id for row in found.reuse}
    assert found.next_id >= frontier
    assert sorted([*reuse, *found.resample, *closed]) == list(range(found.next_id))
    assert all(row.newest_version <= version <= row.lease_version + k and row.stored for row in found.reuse)
    for due in range(version, version + k + 1):
        assert sum(row.lease_version + k <= due for row in found.reuse) <= (due - version + 1) * groups
    if k == 0:
        assert not reuse


HARMS = ["missing", "zero", "no version", "garbage", "cut", "page", "no log", "cut log", "no table"]


def harm_ledger(path: Path, harm: str, log: bytes, early: bytes) -> None:
    """Damage the file of a closed ledger. `log`, `early`: the log and the file as they were before it was closed."""
    whole = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm in {"no table", "no version"}:
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE payloads" if harm == "no table" else "PRAGMA user_version = 0")
    elif harm in {"no log", "cut log"}:
        path.write_bytes(early)
        if harm == "cut log":
            path.with_name("ledger.sqlite-wal").write_bytes(log[: len(log) // 2])
    else:
        page = whole[:16384] + bytes(16384) + whole[2 * 16384 :]
        path.write_bytes({"zero": b"", "garbage": b"no database" * 99, "cut": whole[:20000], "page": page}[harm])


@pytest.mark.parametrize("harm", HARMS)
def test_a_resume_needs_no_ledger(make_ledger, tmp_path, harm):
    path = tmp_path / "ledger.sqlite"
    first = make_ledger()
    for group_id in range(40):
        first.lease(group_id, 0, 0)
        first.finish(done(group_id), 0)
    first.train(range(4), step=0, keep_payloads=True)
    first.flush()
    log, early = (tmp_path / "ledger.sqlite-wal").read_bytes(), path.read_bytes()
    first.close()
    harm_ledger(path, harm, log, early)
    ledger = make_ledger(resume=True)
    window = Window(max_staleness=1, groups_per_step=4, steps=9, trained=4)
    said: list[str] = []
    finished = reconcile(ledger, window, at_checkpoint(1, 12, 4, list(range(4, 12))), row_of=row_0, say=said.append)
    assert "".join(said), "it says what it repaired"
    assert not set(finished) & set(range(4)), "none is trained twice"
    rows = {row.group_id: row.state for row in ledger.rows()}
    assert [rows[group_id] for group_id in range(4)] == ["trained"] * 4
    leased = [window.lease(1) for _ in range(window.room(1))]
    assert sorted({*leased, *finished}) == list(range(4, 12)), "none is skipped"


def test_a_flushed_ledger_is_on_disk(make_ledger, tmp_path, monkeypatch):
    """A crash of the machine leaves a file as it was when it was last fsynced."""
    synced: dict[str, bytes] = {}
    fsync = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_file():
            synced[path.name] = path.read_bytes()
        fsync(descriptor)

    ledger = make_ledger()
    ledger.flush()
    on_disk = (tmp_path / "ledger.sqlite").read_bytes()
    monkeypatch.setattr(os, "fsync", record)
    for group_id in range(8):
        ledger.lease(group_id, group_id, 0)
        ledger.finish(done(group_id), 0)
    ledger.train(range(4), 0, keep_payloads=True)
    ledger.flush()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name, content in {"ledger.sqlite": on_disk, **synced}.items():
        (crashed / name).write_bytes(content)
    found = Ledger(crashed / "ledger.sqlite", on_error=pytest.fail, resume=True)
    assert (found.repaired, found.counts()) == ("", {"trained": 4, "finished": 4})
    found.close()


def saved(version: int) -> SavedState:
    return SavedState(version, version * 4, 4, Fingerprint(1, ["f"]), 0, 1.0, [{"step": 0.0}], 1e-7)


def test_a_checkpoint_is_found_only_after_its_commit(tmp_path):
    path = checkpoint.begin(tmp_path, 3)
    assert checkpoint.newest(tmp_path) is None
    final = checkpoint.commit(path, saved(3), {})
    assert checkpoint.newest(tmp_path) == final
    assert checkpoint.load(final) == structs.replace(saved(3), format=checkpoint.FORMAT)


def test_torn_checkpoints_are_skipped_with_a_message_and_replaced(tmp_path):
    whole = checkpoint.commit(checkpoint.begin(tmp_path, 3), saved(3), {})
    torn = checkpoint.begin(tmp_path, 6)
    (torn / "half").write_text("x")
    skipped = []
    assert checkpoint.newest(tmp_path, skipped.append) == whole
    assert skipped == [torn]
    assert list(checkpoint.begin(tmp_path, 6).iterdir()) == []


@pytest.mark.parametrize(
    ("keep", "spare", "left"),
    [(1, set(), [9]), (2, set(), [6, 9]), (0, set(), [3, 6, 9]), (1, {3}, [3, 9]), (1, {9, 12}, [9]), (2, {6}, [6, 9])],
)
def test_prune_keeps_the_newest_and_the_spared_checkpoints(tmp_path, keep, spare, left):
    for version in (3, 6, 9):
        checkpoint.commit(checkpoint.begin(tmp_path, version), saved(version), {})
    checkpoint.prune(tmp_path, keep=keep, spare=spare)
    assert [checkpoint.load(path).version for path in checkpoint.committed(tmp_path)] == left
    assert checkpoint.torn(tmp_path) == []


def test_a_folder_that_is_not_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path)
