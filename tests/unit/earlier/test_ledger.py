from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import msgspec
import pytest

from rlx.controller.groups.ledger import Ledger
from rlx.controller.records.checkpoint import SavedState
from rlx.earlier.ledger import inspect_ledger
from rlx.errors import UsageError
from rlx.fingerprint import Fingerprint
from rlx.launch.run_dir import reopen_run_dir
from rlx.transport.messages import GroupDone
from rlx_cli.commands.ledger import ledger_command


@pytest.fixture
def run(ended):
    """A run of 2 steps of 2 groups: id 4 was dropped, 5 is finished, 6 is leased; a checkpoint of step 2."""
    path = ended([], policy={"groups_per_step": 2}, **{"async": {"max_staleness": 1}})
    ledger = Ledger(path / "ledger.sqlite", on_error=pytest.fail)
    for group_id in range(7):
        version = group_id // 2
        ledger.lease(group_id, group_id, version)
        if group_id not in {4, 6}:
            done = GroupDone(group_id, "train", 0, version, 1, 1, [0.5], [None], {}, [1], 0, {}, 0.1, 0.2, b"x")
            ledger.finish(done, version)
    ledger.drop(4, "no reward")
    ledger.train([0, 1], 0, keep_payloads=False)
    ledger.train([2, 3], 1, keep_payloads=False)
    ledger.close()
    folder = path / "checkpoints" / "step_00002"
    folder.mkdir(parents=True)
    saved = SavedState(2, 6, 2, Fingerprint(1, []), 1, 0.0, untrained=[5], format=2)
    (folder / "controller.json").write_bytes(msgspec.json.encode(saved))
    return path


def change(run, sql: str) -> None:
    with closing(sqlite3.connect(run / "ledger.sqlite")) as connection, connection:
        connection.execute(sql)


def test_a_sound_ledger(run, capsys):
    assert ledger_command(run, json=False) == 0
    assert "all invariants hold" in capsys.readouterr().out
    assert ledger_command(run, json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["groups"] == {"leased": 1, "finished": 1, "trained": 4, "dropped": 1}
    assert (found["frontier"], found["stored"], found["running"], found["restored"]) == (7, 1, False, 0)
    assert found["checkpoints"] == [{"step": 2, "problem": None}]


def test_a_run_that_goes_on_is_read(run):
    directory = reopen_run_dir(run)
    assert inspect_ledger(run).running
    directory.close()
    assert not inspect_ledger(run).running


@pytest.mark.parametrize(
    ("sql", "violated"),
    [
        ("DELETE FROM groups WHERE group_id = 4", "ids: .* 1 group: 4"),
        ("UPDATE groups SET why = NULL WHERE group_id = 4", "states: .*: 4"),
        ("UPDATE groups SET step = 1 WHERE group_id = 5", "states: .*: 5"),
        ("UPDATE groups SET oldest_version = 9 WHERE group_id = 5", "states: .*: 5"),
        ("UPDATE groups SET step = NULL WHERE group_id = 0", "states: .*: 0"),
        ("UPDATE groups SET step = 0 WHERE group_id = 2", "steps: .*step 0 has 3"),
        ("UPDATE groups SET step = 9 WHERE group_id = 2", "age: .*: 2"),
        ("UPDATE groups SET newest_version = 9 WHERE group_id = 2", "versions: .*: 2"),
        ("INSERT INTO payloads VALUES (6, x'00', x'00')", "episodes: .*: 6"),
        ("UPDATE groups SET state = 'leased', step = NULL WHERE group_id = 3", "checkpoint of step 2: the ledger"),
        ("UPDATE groups SET state = 'trained', step = 1 WHERE group_id = 5", "checkpoint of step 2: by the ledger"),
        ("PRAGMA user_version = 7", "format: the file has format 7"),
        ("DROP TABLE payloads", "file: it cannot be read"),
    ],
)  # fmt: skip
def test_each_violated_invariant_is_named(run, capsys, sql, violated):
    change(run, sql)
    assert ledger_command(run, json=False) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("violated: ")]
    assert any(re.match(f"violated: {violated}", line) for line in lines), lines


def test_no_ledger_to_read(run, tmp_path):
    (run / "ledger.sqlite").unlink()
    with pytest.raises(UsageError, match="has no ledger"):
        inspect_ledger(run)
    with pytest.raises(UsageError, match="isn't a run directory"):
        inspect_ledger(tmp_path)
