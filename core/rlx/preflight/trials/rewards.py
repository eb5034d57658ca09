"""Call each reward for a few rows, as a run will: in a process of its own, with its timeout.

Rules:

* A reward is called for each row with two completions: an empty one, and the row's reference answer, in the form that
  the prompt asks for.
* A call that raises, takes too long, ends its process, or returns anything but a reward is a problem. If the config
  says `on_error = "drop"`, it is a note, as long as one of the calls gives a reward.
* If a right answer gets the same total as an empty one, whatever the row, that is a note: nothing would be learnt.
* A service that isn't reached is a note: it may be started after the check.
* The process is started in the background, so that its imports don't add to the time of the other checks. None is left
  when the trial is closed.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Any, Self, TypeVar

from rlx.boot import Boot
from rlx.config.sections.data import RewardConfig
from rlx.errors import PluginError, RlxError, first_line
from rlx.packers.tokenizer import Tokenizer
from rlx.plugins.session import Plugins
from rlx.preflight.checks.plugins import PlacedReward
from rlx.preflight.checks.problems import Problems
from rlx.preflight.trials.progress import Progress
from rlx.rewards.messages import CallFailed, Loaded, Scored, frame
from rlx.rewards.pool import start_message
from rlx.rewards.process import RewardProcess, WorkerDied
from rlx.rewards.result import excerpt
from rlx.rewards.scoring import RewardInput, abort_message, call_message

LOAD_SECONDS = 60.0
"""A reward that takes longer to load is not tried (`run.start_seconds`, the limit of a run, is often longer)."""
TRIAL_SECONDS = 5.0
"""No further row is tried after this time. One always is."""
PRINTED_LINES = 5
"""Lines of a reward process's output that are shown if it died."""

OPENING = "<think>"
FORMS: Mapping[str, str] = MappingProxyType(
    {
        "\\boxed": "\\boxed{{{}}}",
        "####": "#### {}",
        "Answer:": "Answer: {}",
        "<answer>": "<think></think><answer>{}</answer>",
    }
)
"""A mark in a prompt -> the form of answers that it asks for."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class TrialRow:
    """A dataset row to try rewards on."""

    where: str
    """Its name, for messages."""
    item: object
    reference: object
    prompt: Sequence[int]
    """Token ids."""

    def completions(self, tokenizer: Tokenizer) -> list[RewardInput]:
        """Return an empty completion, and the reference answer as one."""
        prompt = tokenizer.decode(list(self.prompt))
        return [
            RewardInput(
                text=text,
                reference=self.reference,
                prompt=prompt,
                token_ids=[int(token) for token in tokenizer.encode(text, add_special_tokens=False)] if text else [],
                finish_reason="stop",
                example=self.item,
                where=self.where,
            )
            for text in ("", as_answer(self.reference, prompt))
        ]


@dataclass(frozen=True)
class Failure:
    """A call that gave no reward."""

    text: str
    where: str
    trace: str = ""
    unreachable: bool = False
    ended: bool = False
    """Whether the process ended or was killed. Further calls would likely take as long."""


@dataclass
class Outcome:
    """The calls of one reward."""

    calls: int = 0
    failures: list[Failure] = field(default_factory=list)
    values: list[list[float | None]] = field(default_factory=list)
    """For each row that it scored, the values of the row's completions."""


class RewardTrial:
    """Calls rewards in a reward process. `with` starts the process in the background, and ends it."""

    def __init__(
        self, boot: Boot, plugins: Plugins, rewards: Sequence[PlacedReward], problems: Problems, progress: Progress
    ) -> None:
        # A filter that is also a reward is one reward; so is one that evaluation shares with training.
        self._rewards = list({_key(placed.reward): placed for placed in reversed(rewards)}.values())[::-1]
        self._boot = boot
        self._plugins = plugins
        self._problems = problems
        self._progress = progress
        self._seconds = min(boot.load_config().run.start_seconds, LOAD_SECONDS)
        self._undo = ExitStack()
        self._process: RewardProcess | None = None
        self._sound: list[PlacedReward] = []
        """The rewards that can be loaded, by their index in the process."""
        self._loaded: Sequence[Loaded] = ()
        self._refused: set[str] = set()
        """The rewards that are a problem already: one that also scores evaluations is not tried on these."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._printed: IO[bytes] = self._undo.enter_context(tempfile.TemporaryFile())
        self._thread.start()
        self._loading = asyncio.run_coroutine_threadsafe(self._cancellable(self._load()), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._undo.close()

    def finish_loading(self) -> None:
        """Wait until the rewards are loaded. One that can't be is a problem."""
        for placed, error in self._loading.result():
            if isinstance(error.__cause__, TimeoutError) and self._seconds < self._boot.load_config().run.start_seconds:
                owner = self._plugins.owner("rewards", placed.reward.name)
                self._problems.note(f"{placed.place}: {owner} took more than {self._seconds:g} s to load: not tried.")
            else:
                self._problems.add(PluginError(self._with_output(str(error), error)), placed.place)

    def call(self, rewards: Sequence[PlacedReward], rows: Sequence[TrialRow], tokenizer: Tokenizer) -> None:
        """Call the rewards for the rows. One that gives no reward is a problem or a note."""
        keys = [_key(placed.reward) for placed in self._sound]
        completions = [row.completions(tokenizer) for row in rows]
        outcomes: list[tuple[PlacedReward, Outcome]] = []
        for placed in rewards if rows else ():
            if (key := _key(placed.reward)) in keys and key not in self._refused:
                work = self._call_for(keys.index(key), placed.reward, completions)
                outcome = self._wait(self._cancellable(work))
                self._report(placed, outcome)
                outcomes.append((placed, outcome))
        total = [(placed, outcome) for placed, outcome in outcomes if placed.table != "[[filter_rewards]]"]
        known = sum(placed.table != "[[filter_rewards]]" for placed in rewards)
        if total and len(total) == known and all(isinstance(row.reference, str | int | float) for row in rows):
            self._compare_totals(total, completions)

    async def _load(self) -> list[tuple[PlacedReward, RlxError]]:
        """Start the process. Returns the rewards that can't be loaded, with the reasons."""
        found = await self._start(self._rewards)
        if found is None:
            self._sound = self._rewards
            return []
        if len(self._rewards) == 1:
            return [(self._rewards[0], found)]
        # Which of them is at fault shows if each is loaded alone.
        broken = [(placed, error) for placed in self._rewards if (error := await self._start([placed])) is not None]
        named = [placed for placed, _ in broken]
        self._sound = [placed for placed in self._rewards if placed not in named]
        found = await self._start(self._sound)
        return broken if found is None else [*broken, (self._sound[0], found)]

    async def _start(self, rewards: Sequence[PlacedReward]) -> RlxError | None:
        """Start a process that loads these rewards, in place of the one before. Returns the error if that fails."""
        await self._close()
        if not rewards:
            return None
        start = start_message(self._boot, [placed.reward for placed in rewards])
        names = ", ".join(repr(placed.reward.name) for placed in rewards)
        self._printed.seek(0)
        self._printed.truncate()
        with self._progress.doing(f"loading the rewards {names}"):
            try:
                self._process, ready = await RewardProcess.start(start, self._seconds, self._printed)
            except RlxError as error:
                return error
        self._loaded = ready.rewards
        return None

    async def _call_for(self, index: int, reward: RewardConfig, rows: Sequence[list[RewardInput]]) -> Outcome:
        outcome, began = Outcome(), time.monotonic()
        for completions in rows:
            if outcome.calls and time.monotonic() - began > TRIAL_SECONDS:
                break
            calls = [completions] if self._loaded[index].group else [[completion] for completion in completions]
            outcome.values.append([])
            for scored in calls:
                outcome.calls += 1
                found = await self._call(index, reward, scored)
                if not isinstance(found, Failure):
                    outcome.values[-1] += found
                    continue
                outcome.failures.append(found)
                if found.unreachable or (found.ended and reward.on_error == "fail"):
                    return outcome
        return outcome

    async def _call(
        self, index: int, reward: RewardConfig, completions: Sequence[RewardInput]
    ) -> Failure | list[float | None]:
        """Call a reward. Returns its values, or how it failed."""
        if self._process is None and (error := await self._start(self._sound)) is not None:
            return Failure(str(error), "", ended=True)
        assert self._process is not None
        loaded, where = self._loaded[index], completions[0].where
        message = call_message(completions, index, loaded)
        with self._progress.doing(f"waiting for {loaded.owner}, called for {where}"):
            try:
                reply = await self._process.send(frame(message, where), reward.timeout_seconds)
            except (TimeoutError, WorkerDied) as error:
                text = abort_message(loaded.owner, error, reward.timeout_seconds, message.texts)
                await self._close()
                return Failure(self._with_output(text, error), where, ended=True)
        if isinstance(reply, CallFailed):
            return Failure(reply.error, where, reply.trace, reply.unreachable)
        assert isinstance(reply, Scored)
        return [score.value for score in reply.scores]

    def _report(self, placed: PlacedReward, outcome: Outcome) -> None:
        if not outcome.failures:
            return
        first, failed, calls = outcome.failures[0], len(outcome.failures), outcome.calls
        summary = f"{placed.place}: {first_line(PluginError(first.text))}"
        if first.unreachable:
            self._problems.note(f"{summary}\nNothing listens there now. It has to be there when the run starts.")
            return
        drops = placed.reward.on_error == "drop"
        if drops and failed < calls:
            self._problems.note(
                f'{summary}\nIt failed in {failed} of {calls} calls. on_error = "drop": such groups are dropped.'
            )
            return
        effect = "every group would be dropped" if drops else "such a completion ends a run"
        trace = first.trace.splitlines()
        frames = [number for number, line in enumerate(trace) if line.startswith("  File ")]
        lines = [
            first.text,
            *(trace[frames[-1] :][:2] if frames else []),
            f"It was called for {first.where}, and failed in {failed} of {calls} calls: {effect}.",
            "Correct the reward or its args, or choose one that is made for these rows.",
        ]
        self._problems.add(PluginError("\n".join(lines)), placed.place)
        self._refused.add(_key(placed.reward))

    def _compare_totals(
        self, outcomes: Sequence[tuple[PlacedReward, Outcome]], rows: Sequence[list[RewardInput]]
    ) -> None:
        """Note it if the total of a right answer is that of an empty one, in every row that all rewards scored."""
        totals = []
        for number in range(min(len(outcome.values) for _, outcome in outcomes)):
            empty = right = 0.0
            for placed, outcome in outcomes:
                values = outcome.values[number]
                if len(values) != len(rows[number]) or None in values:
                    return
                empty += placed.reward.weight * (values[0] or 0.0)
                right += placed.reward.weight * (values[1] or 0.0)
            totals.append((empty, right))
        if totals and all(empty == right for empty, right in totals):
            tables, tried = outcomes[0][0].table, rows[0][1]
            self._problems.note(
                f"{tables}: a completion that is the reference answer gets the same total ({totals[0][1]:g}) as an "
                f"empty one, in each of {len(totals)} rows tried, such as {excerpt(tried.text)} for {tried.where}. Do "
                "the rewards want another form of answer than the prompts ask for?"
            )

    def _with_output(self, text: str, error: BaseException) -> str:
        """Append the last lines that a process printed that died."""
        if not isinstance(error, WorkerDied) and not isinstance(error.__cause__, WorkerDied):
            return text
        self._printed.seek(0)
        printed = self._printed.read().decode(errors="replace").splitlines()[-PRINTED_LINES:]
        return "\n".join([text, *(["It printed:", *printed] if printed else [])])

    async def _shut_down(self) -> None:
        """Cancel calls that are still open, as after Ctrl-C, and end the process."""
        # Not asyncio.all_tasks(): if asyncio's own task that starts a process is cancelled, the start never ends.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()

    async def _cancellable(self, work: Coroutine[None, None, Result]) -> Result:
        """Await `work` in a task that `_shut_down` cancels."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    async def _close(self) -> None:
        if self._process is not None:
            await self._process.kill()
            self._process = None

    def _wait(self, work: Coroutine[None, None, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _key(reward: RewardConfig) -> str:
    return json.dumps([reward.name, reward.args, reward.group], default=repr, sort_keys=True)


def as_answer(reference: object, prompt: str) -> str:
    """Return a reference answer as a completion of `prompt` might give it, in a form that the prompt mentions."""
    if isinstance(reference, Mapping | list | tuple):
        text = json.dumps(reference, default=str)
    else:
        text = "1" if reference is None else str(reference)
    for mark, form in FORMS.items():
        if mark in prompt and mark not in text:
            text = form.format(text)
    # The template may have opened the reasoning.
    return text.removeprefix(OPENING) if prompt.rstrip().endswith(OPENING) else text
