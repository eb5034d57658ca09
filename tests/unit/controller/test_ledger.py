from __future__ import annotations

import random
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from rlx.controller.groups.ledger import Ledger, LedgerRow
from rlx.controller.groups.resume import plan_resume, reconcile
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


def test_a_resume_needs_a_readable_ledger(make_ledger, tmp_path):
    with pytest.raises(RunError, match=r"cannot resume: .*ledger\.sqlite does not exist"):
        make_ledger(resume=True)
    make_ledger().close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(RunError, match="format 99"):
        make_ledger(resume=True)


def test_a_synchronous_resume_discards_groups_after_the_checkpoint(make_ledger):
    ledger = make_ledger()
    for group_id in range(6):
        ledger.lease(group_id, 0, group_id // 2)
        ledger.finish(done(group_id), 0)
    for step in range(3):
        ledger.train([2 * step, 2 * step + 1], step=step, keep_payloads=True)
    window = Window(max_staleness=0, groups_per_step=2, steps=9, trained=2)
    assert reconcile(ledger, window, version=1, frontier=2) == {}
    assert states(ledger) == {0: "trained", 1: "trained"}
    assert [window.lease(1), window.lease(1)] == [2, 3]
    assert window.room(1) == 0


def test_a_resume_with_staleness_keeps_groups_that_are_still_usable(make_ledger):
    ledger = make_ledger()
    versions = {0: (0, 0), 1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 1), 5: (2, 2)}
    for group_id, (lease_version, newest) in versions.items():
        ledger.lease(group_id, 0, lease_version)
        ledger.finish(done(group_id, lease_version), newest)
    ledger.lease(6, 0, 1)
    ledger.lease(7, 0, 1)
    ledger.drop(7, "x")
    ledger.train([0, 1], step=0, keep_payloads=True)
    ledger.train([2, 4], step=1, keep_payloads=True)
    window = Window(max_staleness=2, groups_per_step=2, steps=9, trained=2)
    finished = reconcile(ledger, window, version=1, frontier=6)
    assert sorted(finished) == [2, 4], "step 1 did not happen; 3 and 5 hold tokens of version 2, which is gone"
    assert [window.lease(1) for _ in range(window.room(1))] == [3, 5, 6, 8]
    assert window.pick(1, 1) == [2, 4]


def test_an_untrained_group_without_stored_episodes_is_sampled_again(make_ledger):
    ledger = make_ledger()
    ledger.lease(0, 0, 0)
    ledger.finish(done(0), 0)
    ledger.train([0], step=0, keep_payloads=False)
    window = Window(max_staleness=1, groups_per_step=1, steps=9)
    assert reconcile(ledger, window, version=0, frontier=0) == {}
    assert window.lease(0) == 0


@settings(max_examples=200)
@given(seed=st.integers(0, 10**9), version=st.integers(0, 4), k=st.integers(1, 3))
def test_a_resume_loses_no_id_and_uses_none_twice(seed, version, k):
    rng = random.Random(seed)
    rows = []
    for group_id in range(rng.randrange(30)):
        if rng.random() < 0.1:
            continue  # the lease was not written before the process ended
        state = rng.choice(["leased", "finished", "trained", "dropped"])
        lease = rng.randrange(5)
        rows.append(
            LedgerRow(group_id, 0, state, lease, lease, lease + rng.randrange(3), None, None, rng.random() < 0.9)
        )
    found = plan_resume(rows, version=version, max_staleness=k, next_id=0)
    reuse = {row.group_id for row in found.reuse}
    closed = {row.group_id for row in rows if row.state in {"trained", "dropped"}}
    assert reuse | set(found.resample) | closed == set(range(found.next_id))
    assert len(reuse) + len(found.resample) + len(closed) == found.next_id
    assert all(row.newest_version <= version <= row.lease_version + k and row.stored for row in found.reuse)


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
