"""The reward pool with real processes: scores, failures, timeouts, and processes that are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlx.boot import encode_boot
from rlx.errors import BadRowError, PluginError, RewardError
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.rewards.messages import Start, frame
from rlx.rewards.pool import RewardPool, start_message
from rlx.rewards.roles import GroupKind
from rlx.rewards.scoring import RewardInput, Scores
from rlx.testing.models import save_char_tokenizer


async def score(pool: RewardPool, completion: RewardInput, kind: GroupKind = "train") -> Scores:
    """Score the only completion of a prompt."""
    (scores,) = await pool.score([completion], kind)
    return scores


async def test_scores_are_in_the_order_of_the_config_with_weights_and_options(pool):
    async with pool({"name": "length", "args": {"scale": 0.5}, "weight": 2.0}, {"name": "slow_async"}) as p:
        scores = await score(p, RewardInput("abcd", prompt="why"))
    assert [(r.name, r.value, r.weight) for r in scores.rewards] == [
        ("length", 2.0, 2.0),
        ("slow_async", 0.5, 1.0),
    ]
    assert scores.metrics == {"reward/slow_async/prompt_length": 3.0}


async def test_a_reward_gets_the_arguments_it_names_and_the_others_as_kwargs(pool):
    async with pool({"name": "sees"}) as p:
        scores = await score(
            p,
            RewardInput(
                "x", {"gold": [1, 2]}, prompt="q", token_ids=(1, 2), finish_reason="length", example={"prompt": "q"}
            ),
        )
    assert scores.rewards[0].value == 1.0


async def test_tokenizer_and_packer_are_offered_by_name_and_through_kwargs(pool, tmp_path):
    save_char_tokenizer(tmp_path / "model")
    async with pool({"name": "tokens"}, {"name": "named_tokenizer"}, model=str(tmp_path / "model")) as p:
        scores = await score(p, RewardInput("12+3"))
    assert [reward.value for reward in scores.rewards] == [4.0, 1.0]


async def test_evaluation_may_have_rewards_of_its_own(pool):
    async with pool({"name": "length"}, eval_rewards=[{"name": "pid"}]) as p:
        train, evals = await score(p, RewardInput("ab")), await score(p, RewardInput("ab"), "eval")
    assert [r.name for r in train.rewards] == ["length"]
    assert [r.name for r in evals.rewards] == ["pid"]


async def test_without_eval_rewards_evaluation_uses_the_training_rewards(pool):
    async with pool({"name": "length"}) as p:
        assert (await score(p, RewardInput("ab"), "eval")).rewards[0].value == 2.0


async def test_filters_have_values_of_their_own_and_one_that_is_a_reward_is_called_once(pool):
    """`Counting` returns how often it was called."""
    counting = {"name": "Counting", "args": {"start": 10}, "weight": 2.0}
    filters = [{**counting, "weight": 0.5}, {"name": "length"}, {"name": "place", "args": {"unscored": [0]}}]
    async with pool(counting, filter_rewards=filters) as p:
        first, second = await p.score([RewardInput("a"), RewardInput("bcd")])
        evaluated = await score(p, RewardInput("a"), "eval")
    assert [[(r.value, r.weight) for r in scores.rewards] for scores in (first, second)] == [[(11, 2)], [(12, 2)]]
    assert [[(r.value, r.weight) for r in scores.filters] for scores in (first, second)] == [
        [(11.0, 0.5), (1.0, 1.0), (None, 1.0)],
        [(12.0, 0.5), (3.0, 1.0), (1.0, 1.0)],
    ]
    assert first.metrics == {"filter/length": 1.0}
    assert second.metrics == {"filter/length": 3.0, "filter/place": 1.0}
    assert [(r.value, r.weight) for r in evaluated.rewards] == [(13.0, 2.0)]
    assert evaluated.filters == []
    assert evaluated.metrics == {}


async def test_a_filter_that_fails_is_an_error_like_a_failing_reward(pool):
    async with pool({"name": "length"}, filter_rewards=[{"name": "steerable", "on_error": "drop"}]) as p:
        with pytest.raises(RewardError, match=r"steerable.*raised KeyError") as caught:
            await score(p, RewardInput("raise"))
    assert caught.value.drop


async def test_a_reward_class_is_instantiated_once_and_called(pool):
    async with pool({"name": "Counting", "args": {"start": 10}}) as p:
        assert [(await score(p, RewardInput("x"))).rewards[0].value for _ in range(2)] == [11.0, 12.0]


async def test_without_rewards_the_scores_are_empty(pool):
    async with pool() as p:
        assert (await score(p, RewardInput("x"))).rewards == []


async def test_a_worker_whose_rewards_need_no_torch_does_not_import_it(pool):
    async with pool({"name": "imported"}) as p:
        assert (await score(p, RewardInput("x"))).rewards[0].value == 0.0


async def test_a_reward_that_prints_or_reads_does_not_disturb_the_protocol(pool, capfd):
    async with pool({"name": "steerable"}) as p:
        assert (await score(p, RewardInput("print"))).rewards[0].value == 0.0
        assert (await score(p, RewardInput("fine"))).rewards[0].value == 1.0
    assert "noise from a reward" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hang", ["took more than 0.5 s", "timeout_seconds", "'hang'"]),
        ("deaf", ["took more than 0.5 s"]),
        ("die", ["exited with code 3", "'die'"]),
        ("segfault", ["was killed by SIGSEGV", "'segfault'"]),
        ("sys.exit", ["raised SystemExit", "'sys.exit'"]),
        ("raise", ["raised KeyError: 'no such key'", "'raise'", 'r.py", line ']),
        ("nan", ["returned float nan, which is not a reward", "'nan'"]),
    ],
)
async def test_a_failing_call_is_an_error_with_owner_and_completion_and_the_next_call_works(pool, text, expected):
    async with pool({"name": "steerable", "timeout_seconds": 0.5}) as p:
        with pytest.raises(RewardError) as caught:
            await score(p, RewardInput(text))
        assert (await score(p, RewardInput("fine"))).rewards[0].value == 1.0
    for part in ["reward './r.py:steerable' (", *expected]:
        assert part in str(caught.value)
    assert "steerable" in caught.value.owner
    assert caught.value.drop is False


async def test_the_error_says_that_on_error_is_drop(pool):
    async with pool({"name": "steerable", "on_error": "drop"}) as p:
        with pytest.raises(RewardError) as caught:
            await score(p, RewardInput("raise"))
    assert caught.value.drop is True


async def test_an_error_that_ends_the_run_wins_over_one_that_drops_the_group(pool):
    dropping = {"name": "steerable", "on_error": "drop"}
    async with pool(dropping, {"name": "sees"}) as p:
        with pytest.raises(RewardError) as caught:
            await score(p, RewardInput("raise"))
    assert "sees" in str(caught.value)
    assert caught.value.drop is False


async def test_a_slow_call_does_not_delay_others(pool, tmp_path):
    """The slow call can't return before all others have, in its own group and in other groups."""
    file = tmp_path / "continue"
    async with pool({"name": "waits_for_file"}, workers=2) as p:
        slow = asyncio.create_task(p.score([RewardInput(str(file)), RewardInput("quick"), RewardInput("quick")]))
        groups = await asyncio.gather(*(p.score([RewardInput("quick")] * 4) for _ in range(5)))
        assert [scores.rewards[0].value for group in groups for scores in group] == [1.0] * 20
        assert not slow.done()
        owner, age = p.oldest()
        assert "waits_for_file" in owner
        assert age > 0
        assert len(p._open_calls) == 1
        file.touch()
        assert len(await slow) == 3
        assert p.oldest() is None


async def test_scores_of_a_group_are_in_the_order_of_the_config(pool):
    async with pool({"name": "length"}, {"name": "place", "weight": 2.0}, {"name": "slow_async"}) as p:
        first, second = await p.score([RewardInput("a", prompt="why"), RewardInput("bcd", prompt="why")])
    assert [(r.name, r.value, r.weight) for r in first.rewards] == [
        ("length", 1.0, 1.0),
        ("place", 0.0, 2.0),
        ("slow_async", 0.5, 1.0),
    ]
    assert [r.value for r in second.rewards] == [3.0, 1.0, 0.5]


async def test_a_group_reward_gets_lists_of_completions_and_the_prompt_once(pool):
    inputs = [
        RewardInput("a", "gold", "q", (1,), "stop", {"prompt": "q"}),
        RewardInput("b", "gold", "q", (2, 3), "length", {"prompt": "q"}),
    ]
    async with pool({"name": "sees_group"}) as p:
        first, second = await p.score(inputs)
    assert [first.rewards[0].value, second.rewards[0].value] == [1.0, 2.0]
    assert [first.metrics, second.metrics] == [{"reward/sees_group/first": 1.0}, {}]


@pytest.mark.parametrize("kind", ["train", "eval"])
async def test_a_group_reward_may_leave_completions_unscored(pool, kind):
    async with pool({"name": "place", "args": {"unscored": [1]}}) as p:
        scores = await p.score([RewardInput("a"), RewardInput("b"), RewardInput("c")], kind)
    assert [score.rewards[0].value for score in scores] == [0.0, None, 2.0]


async def test_group_in_the_config_overrides_the_mark_of_the_author(pool):
    async with pool({"name": "Counting", "group": True}) as p:
        with pytest.raises(RewardError, match="returned int 1, which is not a reward"):
            await p.score([RewardInput("a"), RewardInput("b")])
    async with pool({"name": "together", "group": False}) as p:
        with pytest.raises(RewardError, match=r"returned list \[1\.0.*marked with @rlx.group_reward"):
            await p.score([RewardInput("a"), RewardInput("b")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hang", "took more than 0.5 s and was killed"),
        ("die", "exited with code 3"),
        ("raise", "raised KeyError: 'no such key'"),
        ("too few", "returned 1 values for 3 completions"),
    ],
)
async def test_a_failing_group_call_names_owner_and_completions(pool, text, expected):
    async with pool({"name": "together", "timeout_seconds": 0.5, "on_error": "drop"}) as p:
        with pytest.raises(RewardError) as caught:
            await p.score([RewardInput(text), RewardInput("b"), RewardInput("c")])
        assert len(await p.score([RewardInput("fine")])) == 1
    for part in ["reward './r.py:together' (", expected, f"The first of its 3 completions: {text!r}"]:
        assert part in str(caught.value)
    assert caught.value.drop


async def test_an_error_that_ends_the_run_does_not_wait_for_other_calls(pool, tmp_path):
    """The other call never ends, since its file is never written."""
    async with pool({"name": "waits_for_file"}, {"name": "sees"}, workers=2) as p:
        with pytest.raises(RewardError, match="sees"):
            await p.score([RewardInput(str(tmp_path / "never"))])


async def test_waiting_in_the_queue_does_not_count_against_the_timeout(pool):
    async with pool({"name": "steerable", "timeout_seconds": 0.6}) as p:
        scores = await asyncio.gather(*(score(p, RewardInput("sleep0.3")) for _ in range(4)))
    assert [s.rewards[0].value for s in scores] == [1.0] * 4


async def test_failures_among_many_calls_lose_or_zero_no_other_score(pool):
    texts = ["die" if i % 20 == 7 else "raise" if i % 10 == 3 else f"{i}" for i in range(60)]
    async with pool({"name": "steerable"}, workers=2) as p:
        outcomes = await asyncio.gather(*(score(p, RewardInput(t)) for t in texts), return_exceptions=True)
    for text, outcome in zip(texts, outcomes, strict=True):
        if text in ("die", "raise"):
            assert isinstance(outcome, RewardError)
            assert repr(text) in str(outcome)
        else:
            assert outcome.rewards[0].value == 1.0


async def test_a_pool_that_failed_answers_every_call_with_the_error(pool):
    async with pool({"name": "steerable", "on_error": "drop"}) as p:
        for text in ("garble", "fine"):
            with pytest.raises(RewardError, match="The reward pool failed: ValidationError") as caught:
                await score(p, RewardInput(text))
            assert not caught.value.drop


async def test_the_time_of_failed_calls_is_counted_too(pool):
    steerable = {"name": "steerable", "timeout_seconds": 0.5, "on_error": "drop"}
    async with pool(steerable, {"name": "place"}) as p:
        for text in ("fine", "raise", "nan", "die", "hang"):
            await asyncio.gather(p.score([RewardInput(text), RewardInput("fine")]), return_exceptions=True)
        await score(p, RewardInput("fine"), "eval")
        costs = p.timings.take()
    assert {name: calls for name, (_, calls) in costs.items()} == {
        "reward/steerable": 11,
        "reward/place": 6,
    }
    assert costs["reward/steerable"][0] >= 0.5, "the call that hung"


async def test_processes_that_a_hanging_reward_started_are_killed_with_it(pool, tmp_path: Path):
    note = tmp_path / "pid"
    async with pool({"name": "grandchild", "timeout_seconds": 1}) as p:
        with pytest.raises(RewardError):
            await score(p, RewardInput(str(note)))
    await _assert_exits(int(note.read_text()))


async def test_close_kills_the_processes_and_cancels_waiting_calls(pool):
    p = pool({"name": "pid"}, {"name": "steerable"}, workers=2)
    await p.start()
    with pytest.raises(RewardError):
        await score(p, RewardInput("raise"))
    waiting = asyncio.create_task(score(p, RewardInput("hang")))
    await asyncio.sleep(0.1)
    pids = [process._process.pid for process in p._processes]
    await p.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(pids) == 2
    assert not any(_alive(pid) for pid in pids)


async def test_a_worker_whose_pool_is_gone_exits_in_the_middle_of_a_call(boot):
    """The pool runs in a process of its own, which is killed while a reward hangs."""
    code = (
        "import asyncio, sys, msgspec\n"
        "from rlx.boot import decode_boot\n"
        "from rlx.rewards.pool import RewardPool\n"
        "from rlx.rewards.scoring import RewardInput\n"
        "async def main():\n"
        "    pool = RewardPool(decode_boot(sys.stdin.buffer.read()))\n"
        "    await pool.start()\n"
        "    print([p._process.pid for p in pool._processes][0], flush=True)\n"
        "    await pool.score([RewardInput('hang')])\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        parent.stdin.write(encode_boot(boot({"name": "steerable"})))
        parent.stdin.close()
        worker = int(parent.stdout.readline())
        await asyncio.sleep(0.3)
        assert _alive(worker)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    await _assert_exits(worker)


@pytest.mark.parametrize(
    ("reward", "text", "expected"),
    [
        ({"name": "length"}, "import nothing_of_this_name", "nothing_of_this_name"),
        ({"name": "Broken"}, "class Broken:\n    def __init__(self): raise ValueError('no key')\n", "no key"),
    ],
)
async def test_a_reward_that_cannot_be_loaded_fails_the_start(pool, reward, text, expected):
    with pytest.raises(PluginError, match=expected):
        await pool(reward, text=text).start()


async def test_a_process_that_dies_while_it_loads_fails_the_start(pool):
    with pytest.raises(RewardError, match="was killed by SIGKILL while it loaded"):
        await pool({"name": "length"}, text="import os\nos.kill(os.getpid(), 9)\n").start()


async def test_a_file_that_ends_the_process_while_it_loads_is_named(pool):
    with pytest.raises(PluginError, match=r"its import raised SystemExit: os\._exit\(5\)"):
        await pool({"name": "length"}, text="import os\nos._exit(5)\n").start()


async def test_a_reference_that_is_not_plain_data_is_an_error_not_a_hang(pool):
    async with pool({"name": "length"}) as p:
        with pytest.raises(BadRowError, match=r"^row 3: reference\['a'\] can't be sent.*builtins.object"):
            await score(p, RewardInput("x", reference={"a": object()}, where="row 3"))
        assert p.oldest() is None


async def test_the_pool_still_works_after_a_caller_was_cancelled(pool):
    async with pool({"name": "steerable"}) as p:
        caller = asyncio.create_task(score(p, RewardInput("sleep0.2")))
        await asyncio.sleep(0.05)
        caller.cancel()
        assert (await score(p, RewardInput("fine"))).rewards[0].value == 1.0
        assert p.oldest() is None


def test_reward_processes_do_not_get_the_keys_of_the_run(boot):
    made = boot({"name": "length"})
    assert b"the secret key" in frame(Start(made, []))
    assert b"the secret key" not in frame(start_message(made, []))


async def test_failures_of_hooks_in_reward_processes_are_counted(boot, tmp_path):
    (tmp_path / "hooks.py").write_text(
        "import rlx\nclass Failing:\n    def __init__(self, text: str): self.text = text\n"
        "    @rlx.hookimpl\n    def rlx_register(self): raise RuntimeError(self.text)\n"
    )
    name = "./hooks.py:Failing"
    made = boot({"name": "length"}, workers=2)
    made.config["plugins"] = {"enable": [{"name": name, "args": {"text": "no"}}], "best_effort": [name]}
    made.plugins.append(resolve("hooks", name, discover(), tmp_path))
    async with RewardPool(made) as p:
        assert p.hook_failures.total == {name: 2}


def test_a_pool_can_be_created_before_it_starts(boot):
    assert RewardPool(boot({"name": "length"}))


async def _assert_exits(pid: int) -> None:
    for _ in range(500):
        if not _alive(pid):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"process {pid} is still alive")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"


async def test_if_memory_runs_out_a_reward_process_is_killed_before_anything_else(pool):
    async with pool({"name": "pid"}) as p:
        scores = {name: _killed_first(name) for name in ("self", *(process._process.pid for process in p._processes))}
    own = scores.pop("self")
    assert set(scores.values()) == {1000}
    assert own < 1000


def _killed_first(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
