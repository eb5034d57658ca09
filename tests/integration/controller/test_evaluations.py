"""Evaluations beside training: which are made, which weights they used, and what the best checkpoint makes of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pyarrow.parquet as pq
import pytest

from rlx.controller.records import checkpoint
from rlx.transport.messages import Drain

STEPS = 9
NEVER = 1000


@dataclass
class SlowEvaluations:
    """Peers that let an evaluation of version s end while step s + `lasts` is trained, or at the end of the run."""

    made: list[int]
    """The versions that will be evaluated."""
    lasts: int
    step: int = -1
    most_checkpoints: int = 0
    versions_out: set[int] = field(default_factory=set)
    groups_out: Counter[int] = field(default_factory=Counter)
    overlapped: bool = False

    async def at_eval(self, run, lease):
        self.versions_out.add(lease.version)
        self.groups_out[lease.version] += 1
        self.overlapped |= len(+self.groups_out) > 1
        synchronous = run.config.asynchrony.max_staleness == 0
        held = not synchronous and lease.version > run.start_version
        while held and not self._ended(run, lease.version):  # noqa: ASYNC110 - the fake policy has no event for it
            await asyncio.sleep(0.001)
        self.groups_out[lease.version] -= 1

    async def at_train(self, run, step):
        expected = {version for version in self.made if run.start_version < version <= step}
        while not expected <= self.versions_out | set(reported(run)):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        self.step = step
        self.most_checkpoints = max(self.most_checkpoints, len(checkpoint.committed(run.run_dir)))
        while any(self._ended(run, version) for version in self.versions_out - set(reported(run))):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        self.versions_out -= set(reported(run))

    def _ended(self, run, version):
        return self.step >= version + self.lasts or run.policy.version >= run.config.run.steps


def reported(run) -> list[int]:
    return [m.step for m in run.metrics if m.kind == "eval"]


def expected(*, every, lasts, k, first=0, steps=STEPS) -> tuple[list[int], int]:
    """Return the versions to evaluate, and how many evaluations are skipped, from a walk over all versions."""
    made, skipped, free_from = [first], 0, 0
    for version in range(first + 1, steps + 1):
        if version == steps:
            made.append(version)
        elif version % every == 0 and version >= free_from:
            made.append(version)
            free_from = version + lasts + 1 if k else 0
        elif version % every == 0:
            skipped += 1
    return made, skipped


def sampled_versions(run, step) -> set[int]:
    table = pq.read_table(run.run_dir / "trajectories" / f"eval_{step:05d}.parquet", columns=["weight_versions"])
    return {version for row in table["weight_versions"].to_pylist() for version in row}


def slow_run(make_run, script, *, lasts, every, k, first=0, **options):
    slow = SlowEvaluations(expected(every=every, lasts=lasts, k=k, first=first)[0], lasts)
    run = make_run(
        k=k,
        steps=STEPS,
        eval={"dataset": {"name": "held_out"}, "every": every, "samples": 2},
        checkpoint={"best": {"metric": "eval/accuracy"}, "keep": 1} | options.pop("checkpoint", {}),
        script=script(at_eval=slow.at_eval, at_train=slow.at_train),
        **options,
    )
    return run, slow


@pytest.mark.parametrize(
    ("every", "k", "lasts"), [*itertools.product([1, 3], [1, 2], [0, 1, 2, 5, NEVER]), (1, 0, 0), (3, 0, 0)]
)
async def test_one_evaluation_is_out_at_a_time_and_says_which_weights_it_used(make_run, script, every, k, lasts):
    run, slow = slow_run(make_run, script, lasts=lasts, every=every, k=k)
    ended = await run()
    assert ended.status == "done", ended.error
    made, skipped = expected(every=every, lasts=lasts, k=k)
    assert reported(run) == made
    assert ended.summary["eval/skipped"] == skipped
    assert [m.metrics["eval/skipped"] for m in run.metrics if m.kind == "train"][-1] == skipped
    assert not slow.overlapped
    assert slow.most_checkpoints <= 3, "the newest, the best, and the one that is being evaluated"
    pure = []
    for found in ended.summary["evaluations"]:
        versions = sampled_versions(run, int(found["step"]))
        assert (found["eval/version_min"], found["eval/version_max"]) == (min(versions), max(versions))
        assert k or versions == {found["step"]}
        if versions == {found["step"]} and found["step"]:
            pure.append(int(found["step"]))
    assert STEPS in pure, "the last evaluation follows training"
    assert ended.summary["best"]["step"] == pure[0], "all are equally good"
    assert (run.run_dir / "export" / "model").read_text() == str(pure[0])
    mixed = len(made) - 1 - len(pure)
    assert sum("does not compare it" in line.text for line in run.logs) == mixed
    assert (mixed > 0) == (k > 0 and lasts > 0)


@pytest.mark.parametrize("k", [0, 1])
async def test_a_resume_counts_the_evaluation_that_was_out(make_run, script, k):
    """Version 1 is evaluated while versions 2 and 3 are made, and the run ends after the checkpoint of version 3."""
    first, slow = slow_run(make_run, script, lasts=4, every=1, k=k, checkpoint={"every": 3})

    async def at_train(run, step):
        if step == 4:
            await run.until_saved(3)
            dying.cancel()
            await asyncio.sleep(30)
        await slow.at_train(run, step)

    first.script.at_train = at_train
    dying = asyncio.create_task(first())
    with pytest.raises(asyncio.CancelledError):
        await dying
    second, _ = slow_run(make_run, script, lasts=0, every=1, k=k, first=3, resume="checkpoints/step_00003")
    ended = await second()
    assert ended.status == "done", ended.error
    before = [0] if k else [0, 1, 2, 3]
    assert [found["step"] for found in ended.summary["evaluations"]] == [*before, *range(4 - bool(k), STEPS + 1)]
    assert ended.summary["eval/skipped"] == (2 if k else 0), "those of versions 1 and 2 were never made"


@pytest.mark.parametrize("stopped_at", [3, 4])
async def test_an_evaluation_that_never_ends_does_not_keep_a_run_from_stopping(make_run, script, stopped_at):
    run, slow = slow_run(make_run, script, lasts=NEVER, every=2, k=1)

    async def at_train(run, step):
        if step == stopped_at:
            await run.notify(Drain("Ctrl-C"))
            await asyncio.sleep(0.1)
        await slow.at_train(run, step)

    run.script.at_train = at_train
    ended = await run()
    assert ended.status == "stopped", ended.error
    assert reported(run) == [0]
    # The evaluation of version 2; that of version 4 too, unless a resume makes it before anything else.
    assert ended.summary["eval/skipped"] == {3: 1, 4: 2}[stopped_at]
