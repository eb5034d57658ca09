"""Runs without torch and vLLM: the real controller and channels, and scripted peers whose weights are a number."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from rlx.boot import Boot, PluginRecord
from rlx.config.schema import Config
from rlx.controller.process import PORT_FILE, serve
from rlx.controller.records.checkpoint import committed, version_of
from rlx.episodes import Episode, Reward, VersionSpan, decode_episodes, encode_episodes, single_turn
from rlx.errors import PeerFailed, SyncError
from rlx.files import file_sum
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.client import Client
from rlx.transport.keys import RunKeys
from rlx.transport.messages import (
    BadRow,
    CheckpointWritten,
    DropGroups,
    EvalRows,
    Export,
    Failed,
    GroupDone,
    GroupFailed,
    Lease,
    Leases,
    Log,
    Measured,
    Message,
    Ok,
    OpenTransfer,
    PolicyReady,
    ProcessExited,
    ReceiveWeights,
    RolloutReady,
    RolloutStats,
    RowsRefused,
    RunEnded,
    SaveCheckpoint,
    ScoreTokens,
    SendWeights,
    StartAgain,
    Status,
    StepDone,
    StepMetrics,
    Stop,
    TensorMeta,
    TokenScores,
    TrainStep,
    TransferFailed,
    TransferOpened,
    WeightManifest,
    WeightPlan,
    WeightsReceived,
    WeightsSent,
    WentBack,
)

ROWS, EVAL_ROWS = 20, 6
COSTS, POLICY_COSTS = {"reward/judge": (0.5, 2)}, {"hook/w/rlx_model_built": (8.0, 2)}
DATA = Fingerprints(Fingerprint(ROWS, ["a", "b", "c", "d"]), Fingerprint(EVAL_ROWS, ["e", "f"]))


def score(version: int, tokens: list[list[int]]) -> TokenScores:
    return TokenScores(version, pack_logprobs([[-0.001 * token - version for token in row[1:]] for row in tokens]))


def make_group(lease: Lease, version: int, *, flat: bool = False) -> GroupDone:
    """Return a group whose completions depend on its seed and the weights only.

    Its rewards alternate between 0 and 1; with `flat`, all are 0.25.
    """
    rng = random.Random(f"{lease.seed}:{version}")
    values = [0.25 if flat else float(sample % 2) for sample in range(lease.samples)]
    episodes = []
    for sample in range(lease.samples):
        tokens = [rng.randrange(100) for _ in range(4)]
        trajectory = single_turn(
            [1, 2, lease.index], tokens, logprobs=[-1.0] * 4, versions=[VersionSpan(version, 4)], finish_reason="stop"
        )
        rewards = [Reward("exact", values[sample])]
        episodes.append(Episode(lease.group_id, sample, lease.index, [trajectory], "text", "prompt", rewards))
    return GroupDone(
        group_id=lease.group_id,
        kind=lease.kind,
        index=lease.index,
        oldest_version=version,
        tokens=4 * lease.samples,
        prompt_tokens=3,
        rewards=[*values],
        accuracies=[*values],
        reward_means={"exact": 0.5},
        lengths=[4] * lease.samples,
        truncated=0,
        metrics={},
        generate_seconds=0.01,
        score_seconds=0.001,
        payload=encode_episodes(episodes),
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


@dataclass
class Script:
    """How the peers of a run deviate from normal behaviour."""

    sample_seconds: float = 0.0
    """Mean time that a group takes."""
    train_seconds: float = 0.0
    drops: set[int] = field(default_factory=set)
    """Groups whose reward fails with `on_error = "drop"`."""
    drop_all: bool = False
    bad: set[int] = field(default_factory=set)
    """Groups whose row is too long; in SFT, rows that are. They are dropped unless `keeps_bad`."""
    bad_all: bool = False
    bad_eval: set[int] = field(default_factory=set)
    """Rows of the evaluation dataset for which it raises."""
    keeps_bad: bool = False
    flat: set[int] = field(default_factory=set)
    """Groups whose rewards are all equal."""
    flat_all: bool = False
    fails: set[int] = field(default_factory=set)
    """Groups whose reward fails."""
    nonsense: Any = None
    """fn(group): changes the groups of the first attempt of rollout-1, from its third on."""
    loses: set[int] = field(default_factory=set)
    """Groups that are never sent."""
    lags: str = ""
    """This replica ignores the weights of version `lags_from` and later."""
    lags_from: int = 0
    data: dict[str, Fingerprints] = field(default_factory=dict)
    """Peer -> its datasets, if they differ from `DATA`."""
    at_train: Any = None
    """async fn(run, step): awaited before a step is trained."""
    hold_eval: asyncio.Event | None = None
    """Evaluations after the first wait for it."""
    at_eval: Any = None
    """async fn(run, lease): awaited before a group of an evaluation is sampled."""
    losses: dict[int, float] = field(default_factory=dict)
    """Version -> evaluation loss. The losses of other versions fall steadily."""
    silent: set[str] = field(default_factory=set)
    """Peers that are connected but never ready."""
    absent: set[str] = field(default_factory=set)
    """Peers that never connect."""
    at_start: Any = None
    """async fn(run): awaited once all peers are connected, before any is ready."""
    sends_twice: bool = False
    """Every group is sent twice."""
    dies: dict[str, list[int]] = field(default_factory=dict)
    """Replica -> the numbers of the `Leases` messages that kill it, from 1 and counted over all its attempts."""
    dies_at_weights: dict[str, list[int]] = field(default_factory=dict)
    """Replica -> versions; it dies when it receives one of them, each time once."""
    breaks: str = ""
    """Whom a death during a transfer breaks it for: `all`, `others` (not the policy); nobody if empty."""
    starts_fail: dict[str, list[int]] = field(default_factory=dict)
    """Replica -> the attempts that fail while they start."""
    start_fails_by: str = "report"
    """How such an attempt ends: it sends a `report`, its process ends (`exit`), or nothing is heard (`silence`)."""
    policy_dies: list[int] = field(default_factory=list)
    """Steps in which the policy is killed, each time once."""
    policy_dies_at: list[tuple[str, int]] = field(default_factory=list)
    """The same for other requests: the type of the message, and the version that the policy then has."""
    policy_raises: dict[int, int] = field(default_factory=dict)
    """Step -> how often it raises an exception."""
    policy_starts_fail: list[int] = field(default_factory=list)
    """Attempts of the policy that die while they start."""
    slow_start: float = 0.0
    """Seconds until a restarted replica is ready."""
    reports_death: bool = False
    """When a replica dies, only its engine dies first, and the replica reports that."""
    write_seconds: float = 0.0
    """Time from the copy for a checkpoint until its files are written."""
    write_errors: dict[int, str] = field(default_factory=dict)
    """Version -> why its checkpoint can't be written."""
    hook_failures: dict[str, int] = field(default_factory=dict)
    """Plugin -> failures of its hooks, sent with every group and by the policy when it is ready."""
    lost_leases: set[tuple[str, int]] = field(default_factory=set)
    """Kind and id of leases that do not arrive, each time once."""
    lost_results: set[tuple[str, int]] = field(default_factory=set)
    """Kind and id of groups whose message does not arrive, each time once."""
    report_seconds: float = 0.0
    """Interval at which replicas report the groups that they hold; 0: they don't."""
    never_returns: bool = False
    """The launcher ignores orders to restart a replica."""


class Replica:
    """A replica that samples at once, or as slowly as the script says."""

    def __init__(self, run: FakeRun, name: str, attempt: int = 1, leases: Iterable[Leases] = ()) -> None:
        self.run, self.name, self.attempt, self.version = run, name, attempt, -1
        self.drops = 0
        self.leases: list[Leases] = list(leases)
        self.sent = 0
        self.held: Counter[tuple[str, int]] = Counter()
        self.tasks: list[asyncio.Task[None]] = []

    async def handle(self, message: Message) -> Message:
        match message:
            case Leases():
                assert self.version >= 0, "leased before it had weights"
                self.leases.append(message)
                if len(self.leases) in self.run.script.dies.get(self.name, []):
                    return await self.die()
                self.tasks += [asyncio.create_task(self.hold(lease)) for lease in message.leases]
            case ReceiveWeights() if message.version in self.run.script.dies_at_weights.get(self.name, []):
                self.run.script.dies_at_weights[self.name].remove(message.version)
                self.run.broke[message.version].set()
                await self.die()
                await asyncio.sleep(30)
            case ReceiveWeights():
                if await self.run.breaks(message.version):
                    raise SyncError(f"{self.name}: receiving weights failed: weight transfer broke at bucket 3")
                await self.run.sent[message.version].wait()
                if self.run.script.lags != self.name or message.version < self.run.script.lags_from:
                    self.version = message.version
                return WeightsReceived(message.version, 0.01, 100, score(self.version, message.probe).logprobs)
            case DropGroups():
                for task in self.tasks:
                    task.cancel()
                self.drops += 1
            case Stop():
                self.run.stopped.add(self.name)
        return Ok()

    async def die(self) -> Message:
        for task in self.tasks:
            task.cancel()
        if self.run.script.reports_death:
            await self.run.clients[self.name].notify(Failed("it is dead", owner=self.name, died=True))
        await self.run.notify(ProcessExited(self.name, 137, ["out of memory"], self.attempt))
        return Ok()

    async def report(self) -> None:
        while True:
            held = [key for key, count in self.held.items() if count]
            by_kind = {kind: [group_id for one, group_id in held if one == kind] for kind in ("train", "eval")}
            await self.run.clients[self.name].notify(RolloutStats(len(held), 0.0, "", 0.0, 0, held=by_kind))
            await asyncio.sleep(self.run.script.report_seconds)

    async def hold(self, lease: Lease) -> None:
        key, script = (lease.kind, lease.group_id), self.run.script
        if key in script.lost_leases:
            script.lost_leases.remove(key)
            return
        self.held[key] += 1
        if key in script.lost_results:
            script.lost_results.remove(key)
            await asyncio.sleep(random.random() * 2 * script.sample_seconds)
        else:
            await self.sample(lease)
        self.held[key] -= 1

    async def sample(self, lease: Lease) -> None:
        script, client = self.run.script, self.run.clients[self.name]
        await asyncio.sleep(random.random() * 2 * script.sample_seconds)
        if lease.kind == "eval" and script.hold_eval is not None and lease.version > 0:
            await script.hold_eval.wait()
        if lease.kind == "eval" and script.at_eval is not None:
            await script.at_eval(self.run, lease)
        if lease.group_id in script.bad_eval and lease.kind == "eval":
            why = f"row {lease.index} raised"
            await client.notify(GroupFailed(lease.group_id, lease.kind, why, drop=True, bad_row="dataset"))
        elif lease.kind == "train" and (lease.group_id in script.drops or script.drop_all):
            dropped = GroupFailed(lease.group_id, lease.kind, "no reward today", "reward 'judge'", drop=True)
            await client.notify(structs.replace(dropped, costs=COSTS, hook_failures=script.hook_failures))
        elif lease.kind == "train" and (lease.group_id in script.bad or script.bad_all):
            why, drop = f"row {lease.index} is long", not script.keeps_bad
            await client.notify(GroupFailed(lease.group_id, lease.kind, why, drop=drop, bad_row="too_long"))
        elif lease.kind == "train" and lease.group_id in script.loses:
            return
        elif lease.kind == "train" and lease.group_id in script.fails:
            await client.notify(
                GroupFailed(lease.group_id, lease.kind, "ValueError: boom", "reward 'judge' (d 1, m:f)")
            )
        else:
            for _ in range(1 + script.sends_twice):
                flat = lease.kind == "train" and (lease.group_id in script.flat or script.flat_all)
                group = make_group(lease, self.version, flat=flat)
                self.sent += 1
                if script.nonsense is not None and (self.name, self.attempt) == ("rollout-1", 1) and self.sent > 2:
                    group = script.nonsense(group)
                await client.notify(structs.replace(group, costs=COSTS, hook_failures=script.hook_failures))


class Policy:
    """A policy that handles one request at a time, as the real one does."""

    def __init__(self, run: FakeRun, version: int, attempt: int = 1) -> None:
        self.run, self.version, self.attempt = run, version, attempt
        self.one_at_a_time = asyncio.Lock()
        self.steps: list[TrainStep] = []
        self.refused: list[list[int]] = []
        """The rows of each `TrainStep` that held a bad one."""
        self.groups_opened = 0

    async def handle(self, message: Message) -> Message:
        async with self.one_at_a_time:
            return await self.answer(message)

    async def die(self) -> None:
        await self.run.notify(
            ProcessExited("policy", 1, ["killed"], self.attempt, "policy rank 1 was killed by signal 9")
        )
        await asyncio.sleep(60)

    async def answer(self, message: Message) -> Message:
        if (at := (type(message).__name__, self.version)) in self.run.script.policy_dies_at:
            self.run.script.policy_dies_at.remove(at)
            await self.die()
        match message:
            case OpenTransfer():
                self.groups_opened += 1
                return TransferOpened("127.0.0.1", 1, "gloo")
            case WeightPlan():
                return WeightManifest([[TensorMeta("w", "float32", [1])]])
            case SendWeights():
                assert message.version == self.version
                if self.run.script.breaks == "all" and await self.run.breaks(message.version):
                    return TransferFailed("weight transfer broke at bucket 2")
                self.run.sent[message.version].set()
                return WeightsSent(message.version)
            case ScoreTokens():
                assert message.version == self.version
                return score(self.version, message.tokens)
            case TrainStep() if bad := [row for row in dict.fromkeys(message.rows) if row in self.run.script.bad]:
                self.refused.append(message.rows)
                return RowsRefused(message.step, [BadRow(row, "too_long", f"row {row} is long") for row in bad])
            case TrainStep():
                await self.train(message)
                advantages = [[0.25] * len(decode_episodes(payload)) for payload in message.payloads]
                return StepDone(message.step, {"loss": 0.5, "tokens/trained": 7.0}, 0.01, advantages)
            case EvalRows():
                loss = self.run.script.losses.get(self.version, 1.0 - 0.1 * self.version)
                bad = [BadRow(row, "untrained", f"row {row} is empty") for row in sorted(self.run.script.bad_eval)]
                return Measured({"eval/loss": loss, "eval/rows": EVAL_ROWS - len(bad)}, bad)
            case SaveCheckpoint():
                write(Path(message.path) / "weights", str(self.version))
                self.run.writing.append(asyncio.create_task(self.report_written(message)))
            case Export():
                saved = Path(message.checkpoint or "") / "weights"
                write(Path(message.path) / "model", saved.read_text() if message.checkpoint else str(self.version))
            case Stop():
                self.run.stopped.add("policy")
        return Ok()

    async def report_written(self, message: SaveCheckpoint) -> None:
        script, file = self.run.script, Path(message.path) / "weights"
        await asyncio.sleep(script.write_seconds)
        files = {file.name: file_sum(file)}
        error = script.write_errors.get(message.step, "")
        await self.run.clients["policy"].notify(CheckpointWritten(message.step, script.write_seconds, files, error))

    async def train(self, message: TrainStep) -> None:
        assert message.step == self.version
        if self.run.script.at_train is not None:
            await self.run.script.at_train(self.run, message.step)
        await asyncio.sleep(self.run.script.train_seconds)
        if message.step in self.run.script.policy_dies:
            self.run.script.policy_dies.remove(message.step)
            await self.die()
        if self.run.script.policy_raises.get(message.step, 0):
            self.run.script.policy_raises[message.step] -= 1
            error = "algorithm 'mine': ZeroDivisionError: division by zero"
            await self.run.clients["policy"].notify(Failed(error))
            raise PeerFailed(error)
        self.steps.append(message)
        self.version += 1


class FakeRun:
    """A run: `await run()` runs it to its end, and its attributes then hold everything that happened."""

    def __init__(
        self, run_dir: Path, config: dict[str, Any], script: Script, *, rollouts: bool, resume: str | None
    ) -> None:
        self.run_dir, self.script, self.rollouts = run_dir, script, rollouts
        self.config = Config.model_validate(config)
        self.resume = resume
        self.start_version = int(resume.rsplit("_", 1)[1]) if resume else 0
        self.sent = {version: asyncio.Event() for version in range(50)}
        self.broke = {version: asyncio.Event() for version in range(50)}
        self.names = [f"rollout-{index}" for index in range(self.config.rollout.replicas)] if rollouts else []
        self.records: list[PluginRecord] = []
        self.clients: dict[str, Client] = {}
        self.keys = RunKeys.make(["launcher", "policy", *self.names])
        self.replicas = {name: Replica(self, name) for name in self.names}
        self.policy = Policy(self, self.start_version)
        self.policies = [self.policy]
        self.broken_groups: dict[int, int] = {}
        self.stopped: set[str] = set()
        self.restart_orders: list[StartAgain] = []
        self.restarting: list[asyncio.Task[None]] = []
        self.writing: list[asyncio.Task[None]] = []
        self.logs: list[Log] = []
        self.statuses: list[Status] = []
        self.metrics: list[StepMetrics] = []
        self.went_back: list[WentBack] = []
        self.ended: RunEnded | None = None

    async def __call__(self) -> RunEnded:
        (self.run_dir / PORT_FILE).unlink(missing_ok=True)
        serving = asyncio.create_task(self.serve())
        try:
            async with asyncio.timeout(30):
                connecting = asyncio.create_task(self.connect())
                await asyncio.wait({serving, connecting}, return_when=asyncio.FIRST_EXCEPTION)
                connecting.cancel()
                await serving
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            tasks = [
                *self.restarting,
                *self.writing,
                *(task for replica in self.replicas.values() for task in replica.tasks),
            ]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(client.close() for client in self.clients.values()))
        assert self.ended is not None
        return self.ended

    async def serve(self) -> None:
        boot = Boot(
            kind="controller", name="controller", index=0, attempt=0,
            run_dir=str(self.run_dir), base_dir=str(self.run_dir),
            config=self.config.model_dump(by_alias=True, mode="json"), plugins=self.records, rollouts=self.rollouts,
            endpoint=self.keys.endpoint("controller", "127.0.0.1", 0), client_keys=self.keys.client_keys,
            data=self.script.data.get("launcher", DATA), resume_from=self.resume,
        )  # fmt: skip
        await serve(boot)

    async def connect(self) -> None:
        while not (self.run_dir / PORT_FILE).exists():  # noqa: ASYNC110 - the real launcher polls for it, too
            await asyncio.sleep(0.01)
        port = int((self.run_dir / PORT_FILE).read_text())
        handlers = {"launcher": self.handle_launcher, "policy": self.policy.handle}
        handlers |= {name: replica.handle for name, replica in self.replicas.items()}
        for name in self.script.absent:
            del handlers[name]
        for name, handler in handlers.items():
            await self.join(name, handler, port)
        if self.script.at_start is not None:
            await self.script.at_start(self)
        await asyncio.gather(
            *(self.report_ready(name) for name in handlers if name not in {"launcher", *self.script.silent})
        )

    async def join(self, name: str, handler: Any, port: int, attempt: int = 1) -> None:
        self.clients[name] = Client(self.keys.endpoint(name, "127.0.0.1", port), name, attempt, handler)
        await self.clients[name].connect(5)

    async def breaks(self, version: int) -> bool:
        """Whether the transfer breaks for those that are left, since a replica dies; returns when it has died."""
        dying = any(version in versions for versions in self.script.dies_at_weights.values())
        if not self.script.breaks or not (dying or self.broke[version].is_set()):
            return False
        await self.broke[version].wait()
        # The next try succeeds: it comes with another transfer group.
        return self.policy.groups_opened <= self.broken_groups.setdefault(version, self.policy.groups_opened)

    async def restart(self, message: StartAgain) -> None:
        name = message.name
        if name == "policy":
            await self.restart_policy(message)
            return
        previous = self.replicas[name]
        await asyncio.sleep(message.pause_seconds)
        await self.clients.pop(name).close()
        self.replicas[name] = Replica(self, name, message.attempt, previous.leases)
        port = int((self.run_dir / PORT_FILE).read_text())
        if message.attempt in self.script.starts_fail.get(name, []):
            await self.join(name, self.replicas[name].handle, port, message.attempt)
            if self.script.start_fails_by == "report":
                await self.clients[name].notify(Failed("vLLM engine did not start: Free memory is less", owner=name))
            if self.script.start_fails_by != "silence":
                await self.notify(ProcessExited(name, 1, ["Free memory is less"], message.attempt))
            return
        await asyncio.sleep(self.script.slow_start)
        await self.join(name, self.replicas[name].handle, port, message.attempt)
        await self.report_ready(name)

    async def restart_policy(self, message: StartAgain) -> None:
        await asyncio.sleep(message.pause_seconds)
        await self.clients.pop("policy").close()
        version = (
            0 if message.resume_from is None else int((Path(message.resume_from) / "policy" / "weights").read_text())
        )
        self.policy = Policy(self, version, message.attempt)
        self.policies.append(self.policy)
        port = int((self.run_dir / PORT_FILE).read_text())
        await self.join("policy", self.policy.handle, port, message.attempt)
        if message.attempt in self.script.policy_starts_fail:
            await self.notify(ProcessExited("policy", 1, ["no memory"], message.attempt, "OutOfMemoryError"))
        else:
            await self.report_ready("policy")

    async def report_ready(self, name: str) -> None:
        data = self.script.data.get(name, DATA)
        ready: Message = RolloutReady(data, 1, [[1, 2, 3], [4, 5]])
        if name == "policy":
            sent = {"costs": POLICY_COSTS, "hook_failures": self.script.hook_failures}
            ready = PolicyReady(self.policy.version, vocab_size=100, data=None if self.rollouts else data, **sent)
        try:
            await self.clients[name].request(ready, timeout=5, what="ready")
        except Exception as error:
            self.refused = str(error)
        if self.script.report_seconds and name in self.replicas:
            self.replicas[name].tasks.append(asyncio.create_task(self.replicas[name].report()))

    async def handle_launcher(self, message: Message) -> Message:
        match message:
            case RunEnded():
                self.ended = message
            case StartAgain():
                self.restart_orders.append(message)
                if not self.script.never_returns:
                    self.restarting.append(asyncio.create_task(self.restart(message)))
            case Log():
                self.logs.append(message)
            case Status():
                self.statuses.append(message)
            case StepMetrics():
                self.metrics.append(message)
            case WentBack():
                self.went_back.append(message)
                self.metrics = [
                    one for one in self.metrics
                    if (one.step < message.step if one.kind == "train" else one.step in message.evaluated)
                ]  # fmt: skip
        return Ok()

    async def until_saved(self, version: int) -> None:
        """Wait until the checkpoint of `version`, which is written while training goes on, is committed."""
        while version not in map(version_of, committed(self.run_dir)):  # noqa: ASYNC110 - another task commits it
            await asyncio.sleep(0.001)

    async def notify(self, message: Message) -> None:
        """Send the controller a message from the launcher."""
        await self.clients["launcher"].notify(message)

    @property
    def trained(self) -> list[list[tuple[int, int]]]:
        """For each step, the (group id, version of the oldest token) of its groups."""
        steps = []
        for step in self.policy.steps:
            episodes = [decode_episodes(payload)[0] for payload in step.payloads]
            steps.append([(episode.group_id, episode.oldest_version) for episode in episodes])
        return steps

    def times_trained(self) -> Counter[int]:
        return Counter(group_id for step in self.trained for group_id, _ in step)


@pytest.fixture
def make_run(tmp_path: Path):
    """`make_run(k=0, replicas=2, steps=3, ...)`: a run in `tmp_path`, so that a second one can resume the first.

    `k` is `[async] max_staleness`; other keywords are sections of the config.
    """

    def make(
        *, script: Script | None = None, rollouts: bool = True, resume: str | None = None, k: int = 0, steps: int = 3,
        replicas: int = 2, groups: int = 4, run_dir: Path | None = None, records: Any = (), **sections: Any,
    ) -> FakeRun:  # fmt: skip
        config: dict[str, Any] = {
            "model": {"path": "m"},
            "dataset": {"name": "d"},
            "run": {"steps": steps} | sections.pop("run", {}),
            "algorithm": {"group_size": 2},
            "policy": {"groups_per_step": groups, "dtype": "float32"},
            "rollout": {"replicas": replicas},
            "async": {"max_staleness": k},
        }
        run = FakeRun(run_dir or tmp_path, config | sections, script or Script(), rollouts=rollouts, resume=resume)
        run.records = list(records)
        return run

    return make


@pytest.fixture
def script() -> type[Script]:
    """`script(drops={1})`: how the peers of a run behave."""
    return Script
