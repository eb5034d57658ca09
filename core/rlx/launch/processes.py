"""The processes of a run, and the boot data of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from rlx.boot import Boot, encode_boot, frame_blob
from rlx.launchers.base import ProcessSpec
from rlx.names import CONTROLLER, LAUNCHER, LOOPBACK, POLICY, replica_name
from rlx.preflight.plan import RunPlan
from rlx.transport.keys import RunKeys
from rlx.transport.messages import StartAgain


@dataclass(frozen=True)
class RunProcesses:
    """Makes the boot data of a run's processes.

    mains: kind -> `module:function` for `rlx.proc` to run in place of that kind's own.
    """

    plan: RunPlan
    run_dir: Path
    keys: RunKeys
    resume_from: Path | None
    mains: Mapping[str, str]

    def boot(self, kind: str, index: int, port: int, attempt: int = 1) -> Boot:
        """Return the boot data of one process; `index` is a replica's."""
        name = replica_name(index) if kind == "rollout" else kind
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
            endpoint=self.keys.endpoint(name, LOOPBACK, port),
            client_keys=self.keys.client_keys if name == CONTROLLER else {},
            data=plan.data,
            script=plan.script,
            resume_from=None if self.resume_from is None else str(self.resume_from),
        )

    def controller(self) -> Boot:
        return self.boot(CONTROLLER, 0, self.plan.config.run.port)

    def clients(self, port: int) -> list[Boot]:
        """Return the boot data of the processes to start once the controller listens on `port`."""
        replicas = range(self.plan.config.rollout.replicas if self.plan.rollouts else 0)
        return [self.boot(POLICY, 0, port), *(self.boot("rollout", index, port) for index in replicas)]

    def restart(self, order: StartAgain, port: int) -> Boot:
        """Return the boot data of the next attempt of a replica, or of the policy, that died."""
        if order.name == POLICY:
            return structs.replace(self.boot(POLICY, 0, port, order.attempt), resume_from=order.resume_from)
        kind, _, index = order.name.rpartition("-")
        return self.boot(kind, int(index), port, order.attempt)


def process_spec(boot: Boot) -> ProcessSpec:
    """Return the process with this boot data, as a launcher starts it."""
    return ProcessSpec(boot.name, boot.log, frame_blob(encode_boot(boot)))


def client_names(plan: RunPlan) -> list[str]:
    """Return the names of all processes that connect to the controller."""
    replicas = range(plan.config.rollout.replicas if plan.rollouts else 0)
    return [LAUNCHER, POLICY, *(replica_name(index) for index in replicas)]
