"""The processes of a run, and the boot data of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlx.launch.boot import Boot
from rlx.launch.plan import RunPlan
from rlx.transport.keys import SERVER, RunKeys

LAUNCHER = "launcher"
POLICY = "policy"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Cast:
    """`mains`: kind -> the `module:function` that `rlx.proc` runs in its place."""

    plan: RunPlan
    run_dir: Path
    keys: RunKeys
    resume_from: Path | None
    mains: Mapping[str, str]

    def boot(self, kind: str, index: int, port: int, attempt: int = 1) -> Boot:
        name = f"{kind}-{index}" if kind == "rollout" else kind
        plan = self.plan
        return Boot(
            kind=self.mains.get(kind, kind),
            name=name,
            index=index,
            attempt=attempt,
            run_dir=str(self.run_dir),
            base_dir=str(plan.base_dir.absolute()),
            config=plan.config.model_dump(by_alias=True, mode="json"),
            plugins=list(plan.plugins.records),
            rollouts=plan.rollouts,
            endpoint=self.keys.endpoint(name, HOST, port),
            client_keys=self.keys.client_keys if name == SERVER else {},
            data=plan.data,
            script=plan.script,
            resume_from=None if self.resume_from is None else str(self.resume_from),
        )

    def controller(self) -> Boot:
        return self.boot(SERVER, 0, self.plan.config.run.port)

    def clients(self, port: int) -> list[Boot]:
        """The processes that are started once the controller listens."""
        replicas = range(self.plan.config.rollout.replicas if self.plan.rollouts else 0)
        return [self.boot(POLICY, 0, port), *(self.boot("rollout", index, port) for index in replicas)]

    def again(self, name: str, port: int, attempt: int) -> Boot:
        """Of a replica that died."""
        kind, _, index = name.rpartition("-")
        return self.boot(kind, int(index), port, attempt)


def client_names(plan: RunPlan) -> list[str]:
    replicas = range(plan.config.rollout.replicas if plan.rollouts else 0)
    return [LAUNCHER, POLICY, *(f"rollout-{index}" for index in replicas)]
