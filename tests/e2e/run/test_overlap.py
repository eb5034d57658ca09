"""Two engines and a policy that do not wait for each other."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_engines_sample_while_the_policy_trains(start, warm):
    settings = {
        "async.max_staleness": 2,
        "rollout.replicas": 2,
        "run.steps": 8,
        "eval.every": 3,
        "checkpoint.export": "false",
        # Two ranks share each row.
        "policy.parallel": "{cp = 2}",
    }
    longer = {"rollout.max_tokens": 48}
    run = start("rl", warm, **settings, **longer)
    assert run.wait() == 0, run.output
    train, summary = run.metrics(), run.summary
    ages = [line["staleness/max"] for line in train]
    assert len(ages) == 8
    assert 0 < max(ages) <= 2
    assert (summary["groups/trained"], summary["groups/dropped"], summary["groups/lost"]) == (48, 0, 0)
    assert summary["sync/logprob_diff_max"] <= 1e-5
    evaluated = [line["step"] for line in run.metrics("eval")]
    # That of version 6 is skipped if the one of version 3 is still out.
    assert evaluated in ([0, 3, 6, 8], [0, 3, 8])
    assert summary["eval/skipped"] == 4 - len(evaluated)
    for line in run.metrics("eval"):
        table = pq.read_table(run.dir / "trajectories" / f"eval_{line['step']:05d}.parquet")
        used = {version for row in table["weight_versions"].to_pylist() for version in row}
        assert (line["eval/version_min"], line["eval/version_max"]) == (min(used), max(used))
        assert line["step"] <= min(used)
    rows = [row for path in sorted(run.dir.glob("trajectories/step_*")) for row in pq.read_table(path).to_pylist()]
    assert all(len(row["weight_versions"]) == len(row["token_ids"]) for row in rows)
    oldest = [row["step"] - min(row["weight_versions"]) for row in rows]
    assert 0 < max(oldest) <= 2
    assert max(line["staleness/max"] for line in train) == max(oldest)
    for name in ("rollout-0", "rollout-1"):
        assert run.log(name)
    assert not run.survivors()
