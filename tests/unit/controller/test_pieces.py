from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlx.config.schema import Config
from rlx.config.sections.run import PATIENCE
from rlx.controller.groups.dropped_groups import MAX_FAILED, MAX_UNINFORMATIVE, Drops
from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.health.busy_time import BusyTime
from rlx.controller.health.watchdog import Watchdog
from rlx.controller.modes.weight_sync import bound_of, recent_sequences
from rlx.controller.records.bad_rows import NAMED_ROWS, BadRows, most_in_row
from rlx.controller.records.metrics import eval_metrics, group_metrics, is_informative
from rlx.controller.records.samples import samples_of
from rlx.controller.runtime.failure import Failure, together
from rlx.controller.runtime.progress import Progress
from rlx.controller.state import LEGAL, RunState, StateMachine
from rlx.datasets.order import RowOrder, derive_seed, plain_order
from rlx.episodes import Episode, Reward, encode_episodes, named_means, single_turn
from rlx.errors import RunError
from rlx.transport.messages import GroupDone, RolloutStats


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def group(group_id: int = 0, *, rewards=(1.0, 0.0), accuracies=(1.0, 0.0), oldest: int = 0, **other) -> GroupDone:
    fields = {"group_id": group_id, "kind": "train", "index": 0, "oldest_version": oldest, "tokens": 10}
    fields |= {"prompt_tokens": 3, "rewards": list(rewards), "accuracies": list(accuracies), "lengths": [4, 6]}
    fields |= {"reward_means": {"exact": 0.5}, "truncated": 1, "metrics": {}, "payload": b""}
    fields |= {"generate_seconds": 1.0, "score_seconds": 0.5}
    return GroupDone(**fields | other)


@pytest.mark.parametrize("start", RunState)
@pytest.mark.parametrize("goal", RunState)
def test_the_state_machine_allows_only_legal_transitions(start, goal):
    machine = StateMachine()
    machine._state = start
    if goal in LEGAL[start]:
        machine.to(goal)
        assert machine.state is goal
    else:
        with pytest.raises(AssertionError, match="illegal transition"):
            machine.to(goal)


def test_every_run_drains_before_it_ends():
    assert [state for state in RunState if {RunState.DONE, RunState.FAILED} & LEGAL[state]] == [RunState.DRAINING]


@given(size=st.integers(1, 50), seed=st.integers(0, 2**31 - 1))
def test_each_epoch_has_each_row_once(size, seed):
    order = RowOrder(plain_order(size, seed=seed, shuffle=True))
    for epoch in range(3):
        assert sorted(order.rows(epoch * size, size)) == list(range(size))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed):
        return RowOrder(plain_order(100, seed=seed, shuffle=True))

    rows = order(1).rows(0, 200)
    assert [order(1).row(position) for position in (150, 7)] == [rows[150], rows[7]]
    assert rows[:100] != rows[100:]
    assert rows != order(2).rows(0, 200)
    assert RowOrder(plain_order(3, seed=1, shuffle=False)).rows(0, 5) == [0, 1, 2, 0, 1]


def test_derived_seeds_differ_and_fit_31_bits():
    seeds = {derive_seed(0, "group", number) for number in range(1000)}
    assert len(seeds) > 990
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(3, "step", 1) == derive_seed(3, "step", 1)


@given(st.lists(st.tuples(st.sampled_from("tgra"), st.integers(0, 3)), max_size=60))
def test_the_least_loaded_replica_is_chosen(moves):
    names = [f"r{index}" for index in range(4)]
    load, slow = LeastLoaded(names), dict.fromkeys(names, 0)
    for move, index in moves:
        name = names[index]
        if move == "g" and slow.get(name):
            load.give_back(name)
            slow[name] -= 1
        elif move == "r" and name in slow:
            load.remove(name)
            del slow[name]
        elif move == "a" and name not in slow:
            load.add(name)
            slow[name] = 0
        elif move == "t":
            taken = load.take()
            assert (taken is None) == (not slow)
            if taken is not None:
                assert slow[taken] == min(slow.values())
                slow[taken] += 1
    assert {name: load.out(name) for name in slow} == slow


def test_unscored_completions_do_not_count_as_zero():
    metrics = group_metrics([group(rewards=(1.0, None)), group(rewards=(0.0, 0.0), oldest=1)], step=2, uninformative=0)
    assert metrics["reward/mean"] == pytest.approx(1 / 3)
    assert metrics["groups/zero_std"] == 1.0
    assert (metrics["staleness/mean"], metrics["staleness/max"]) == (1.5, 2.0)
    assert metrics["completion/truncated"] == 0.5
    assert metrics["reward/exact"] == 0.5


def test_named_means_skip_unscored_values():
    values = [("exact", 1.0), ("judge", None), ("exact", 0.0), ("length", None), ("judge", 0.5)]
    assert list(named_means(values).items()) == [("exact", 0.5), ("judge", 0.5)]


@pytest.mark.parametrize(
    ("rewards", "filters", "informative"),
    [
        ((1.0, 0.0), [], True),
        ((1.0, 1.0), [], False),
        ((1.0, None), [], False),
        ((None, None), [], False),
        ((0.1 + 0.2, 0.3), [], True),
        ((1.0, 1.0), [0.0, 1.0], True),
        ((1.0, 0.0), [1.0, 1.0], False),
        ((1.0, 0.0), [None, 1.0], False),
    ],
)
def test_a_group_is_informative_if_its_filter_totals_differ(rewards, filters, informative):
    assert is_informative(group(rewards=rewards, filters=filters)) is informative


def test_the_share_of_informative_groups_includes_dropped_groups():
    groups = [group(), group(rewards=(1.0, 1.0)), group()]
    assert group_metrics(groups, 0, uninformative=0)["groups/informative"] == pytest.approx(2 / 3)
    assert group_metrics(groups[:1], 0, uninformative=3)["groups/informative"] == 0.25


def test_only_consecutive_drops_end_the_run():
    drops = Drops(groups_per_step=1)
    for _ in range(10):
        for _ in range(MAX_UNINFORMATIVE - 1):
            drops.drop_uninformative([0.0, 0.0])
        for _ in range(MAX_FAILED - 1):
            drops.drop_failed("judge is down")
        drops.kept()
    assert (drops.failed, drops.uninformative) == (10 * (MAX_FAILED - 1), 10 * (MAX_UNINFORMATIVE - 1))


@pytest.mark.parametrize(("rows", "groups", "most"), [(30, 1, 30), (5000, 1, 1024), (1, 1, 1), (10_000, 500, 2000)])
def test_rows_that_are_all_bad_end_the_run(rows, groups, most):
    log = []
    bad = BadRows("dataset", lambda level, text: log.append(text), most_in_row(groups, rows))
    for _ in range(3):
        for row in range(most - 1):
            bad.drop(row, "too_long" if row % 2 else "packer", f"row {row} has 900 tokens")
        bad.good()
    for row in range(most - 1):
        bad.drop(row, "packer", f"row {row} has 900 tokens")
    with pytest.raises(RunError, match=rf"{most} rows of \[dataset\] in a row can't be used.*too long.*row 7 has 900"):
        bad.drop(7, "too_long", "row 7 has 900 tokens")
    assert sum(bad.counts.values()) == 4 * (most - 1) + 1
    for reason in bad.counts:
        rows_named = [known.row for known in bad.named if known.reason == reason]
        assert len(rows_named) == len(set(rows_named)) <= NAMED_ROWS
    assert len(log) <= len(bad.named) + len(bad.counts), "each named once, then one line that says there are more"


def test_consecutive_failures_are_reported_with_the_last_one():
    drops = Drops(groups_per_step=5)
    for number in range(19):
        drops.drop_failed(f"failure {number}")
    with pytest.raises(RunError, match=r"20 groups in a row.*The last one: judge is down \(reward 'judge'\)"):
        drops.drop_failed("judge is down (reward 'judge')")


def test_consecutive_uninformative_groups_are_reported_with_their_totals():
    drops = Drops(groups_per_step=20)
    why = {drops.drop_uninformative([total, None, total]) for total in [0.0] * 70 + [1.0] * 8}
    assert why == {f"uninformative: the total of all its completions is {total}" for total in (0, 1)}
    assert drops.drop_uninformative([None]) == "uninformative: the total of all its completions is not scored"
    with pytest.raises(RunError) as caught:
        drops.drop_uninformative([0.1234567])
    assert "80 groups in a row were dropped as uninformative" in str(caught.value)
    assert "Groups by that total: 0: 70, 1: 8, not scored: 1, 0.123457: 1." in str(caught.value)
    assert "drop_uninformative = false" in str(caught.value)


def test_only_the_most_common_totals_are_reported():
    drops = Drops(groups_per_step=16)
    totals = [7.0 if number % 5 == 4 else number / 2**10 for number in range(64)]
    for total in totals[:-1]:
        drops.drop_uninformative([total])
    with pytest.raises(RunError, match=r"7: 12, 0: 1,.*, and 43 other totals\."):
        drops.drop_uninformative(totals[-1:])


def test_accuracy_is_the_share_of_right_completions_among_the_scored():
    metrics = eval_metrics([group(accuracies=(1.0, 0.99)), group(accuracies=(None, 2.0))], dropped=1, seconds=2.0)
    assert metrics["eval/accuracy"] == pytest.approx(2 / 3)
    assert metrics["eval/dropped"] == 1.0


def test_busy_time_grows_between_reports_and_never_decreases():
    clock = Clock()
    busy = BusyTime(("a", "b"), clock)
    stats = RolloutStats(1, 480.0, "reward 'judge'", 10.0, 5)
    clock.now = 20.0
    assert busy.report("a", stats)
    assert not busy.report("a", stats)
    clock.now = 20.5
    assert busy.generate_seconds() == pytest.approx((10.5 + 0.0) / 2)
    busy.report("a", RolloutStats(0, 0.0, "", 10.2, 5))
    assert busy.generate_seconds() == pytest.approx(10.5 / 2)
    assert busy.oldest() == ""
    busy.report("b", stats)
    assert busy.oldest() == "oldest 480 s in reward 'judge' on b"


def test_engines_are_never_busy_for_longer_than_time_has_passed():
    """A report comes a second late, and another one has busy time from before the first step."""
    clock, random = Clock(), Random(0)
    busy = BusyTime(("a",), clock)
    before, true = busy.generate_seconds(), 0.0
    for step in range(50):
        clock.now += (seconds := random.uniform(0.1, 0.3))
        true += seconds * random.choice([0.2, 1.0])
        if step % 5 == 4:
            busy.report("a", RolloutStats(0, 0.0, "", 2.0 + true, step))
        after = busy.generate_seconds()
        assert 0.0 <= after - before <= seconds + 1e-9
        before = after
    assert before == pytest.approx(true, abs=3.0)


def test_an_engine_whose_first_group_is_not_counted_yet_is_busy():
    clock = Clock()
    busy = BusyTime(("a",), clock)
    busy.report("a", RolloutStats(0, 0.0, "", 0.0, 0, busy=True))
    clock.now += 0.5
    assert busy.generate_seconds() == pytest.approx(0.5)


def test_samples_are_of_the_first_group_whose_rewards_differ():
    def done(group_id, *totals):
        episodes = [
            Episode(group_id, sample, 7, [single_turn([1], [2])], text=f"{sample}", prompt_text="p" * 9000,
                    rewards=[Reward("exact", total)])
            for sample, total in enumerate(totals)
        ]  # fmt: skip
        return group(group_id, rewards=totals, payload=encode_episodes(episodes), reference="42")

    found = samples_of([done(0, 1.0, 1.0), done(1, 0.0, None, 1.0), done(2, 0.0, 1.0)])
    assert [(sample.group_id, sample.completion, sample.reward) for sample in found] == [
        (1, "0", 0.0), (1, "1", None), (1, "2", 1.0)
    ]  # fmt: skip
    assert found[0].reference == "42"
    assert (found[0].rewards, found[0].dataset_index) == ({"exact": 0.0}, 7)
    assert len(found[0].prompt) <= 4000
    assert "characters" in found[0].prompt
    assert [sample.group_id for sample in samples_of([done(5, *[1.0] * 20)])] == [5] * 8


def test_the_watchdog_warns_with_backoff_and_then_raises():
    clock, warnings = Clock(), []
    progress = Progress(clock)
    watchdog = Watchdog(progress, stall_seconds=10.0, describe=lambda: progress.current, warn=warnings.append)
    with progress.waiting("policy waits for groups"):
        for clock.now in range(1, 10 * PATIENCE):
            watchdog.check()
        assert [line.split(":")[0] for line in warnings] == [f"nothing has moved for {s} s" for s in (10, 20, 40, 80)]
        assert warnings[0].endswith("policy waits for groups")
        clock.now = 10 * PATIENCE
        with pytest.raises(RunError, match="policy waits for groups"):
            watchdog.check()


def test_the_watchdog_restarts_after_progress():
    clock, warnings = Clock(), []
    progress = Progress(clock)
    watchdog = Watchdog(progress, stall_seconds=10.0, describe=lambda: "x", warn=warnings.append)
    for clock.now in (10, 15, 20):
        watchdog.check()
    progress.moved()
    for clock.now in (25, 31):
        watchdog.check()
    assert [line.split(":")[0][-4:] for line in warnings] == ["10 s", "20 s", "11 s"]


@pytest.mark.parametrize(
    ("sections", "bound"),
    [
        ({"policy": {"dtype": "float32"}}, 1e-4),
        ({}, 0.2),
        ({"policy": {"dtype": "float32"}, "rollout": {"dtype": "float16"}}, 0.05),
        ({"sync": {"max_logprob_diff": 0.3}}, 0.3),
    ],
)
def test_the_logprob_bound_follows_the_engines_dtype_unless_set(sections, bound):
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}} | sections)
    assert bound_of(config)[0] == bound


def test_recent_sequences_are_few_and_short_and_alternate_between_groups():
    def payload(first: int) -> bytes:
        return encode_episodes([Episode(0, n, 0, [single_turn([first, n], [9] * 400)]) for n in range(8)])

    found = recent_sequences([payload(1), payload(2)])
    assert [row[:2] for row in found] == [[1, 0], [2, 0], [1, 1], [2, 1]]
    assert {len(row) for row in found} == {256}


async def test_the_first_failure_cancels_guarded_work():
    failure = Failure()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def break_down() -> None:
        raise RunError("first")

    failure.spawn(break_down(), "x")
    with pytest.raises(RunError, match="first"):
        await failure.guard(work())
    assert cancelled.is_set()
    failure.fail(RunError("second"))
    assert str(failure.error) == "first"


async def test_together_cancels_the_rest_at_the_first_error():
    ended = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    async def bad() -> None:
        await asyncio.sleep(0)
        raise RunError("bad")

    with pytest.raises(RunError, match="bad"):
        await together([slow(), bad()])
    assert ended == ["slow"]
