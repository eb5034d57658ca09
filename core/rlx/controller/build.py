"""Builds the training mode of a run, once all processes are ready."""

from __future__ import annotations

from functools import partial

from rlx.controller.groups import resume
from rlx.controller.groups.evaluation import Evaluation
from rlx.controller.groups.groups import Groups
from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.groups.ledger import Ledger
from rlx.controller.groups.placement import Placement, Placements
from rlx.controller.groups.staleness import Window
from rlx.controller.health.members import Members
from rlx.controller.health.restarts import Restarts
from rlx.controller.modes.rl import RLMode
from rlx.controller.modes.sft import SFTMode
from rlx.controller.modes.weight_publisher import WeightPublisher
from rlx.controller.modes.weight_sync import WeightSync
from rlx.controller.records.checkpoint import SavedState
from rlx.controller.records.summary import Totals
from rlx.controller.runtime.services import Services
from rlx.datasets.order import RowOrder, plain_order
from rlx.errors import RunError
from rlx.fingerprint import Fingerprint, difference
from rlx.names import LEDGER_FILE


def build_rl(
    services: Services, members: Members, restarts: Restarts, saved: SavedState | None, totals: Totals
) -> RLMode:
    """Build the mode of an RL run. The window and the ledger continue from the checkpoint, if the run is resumed.

    Raises RunError if the checkpoint does not fit the datasets or the config.
    """
    config = services.config
    data = next(iter(members.rollouts.values())).data
    order = _row_order(services, data.train.size)
    _check_resume(saved, data.train, config.policy.groups_per_step)
    ledger = Ledger(services.run_dir / LEDGER_FILE, on_error=services.failure.fail_threadsafe, resume=saved is not None)
    version = saved.version if saved else 0
    window = Window(
        max_staleness=config.asynchrony.max_staleness,
        groups_per_step=config.policy.groups_per_step,
        steps=config.run.steps,
        trained=version * config.policy.groups_per_step,
    )
    load, barrier = LeastLoaded(services.replicas), window.max_staleness == 0
    placement = Placement(services, load, barrier=barrier, kind="group")
    groups = Groups(services, window=window, order=order, ledger=ledger, placement=placement, version=version)
    if saved is not None:
        if saved.untrained is None:
            saved = resume.complete(saved, ledger.rows())
        say = partial(services.log, "warning")
        groups.restore(resume.reconcile(ledger, window, saved, row_of=order.row, say=say))
        groups.drops.failed, groups.drops.uninformative = saved.dropped, saved.uninformative
        groups.bad_rows.restore(saved.bad_rows, saved.named_rows)
    evaluation = None
    if config.eval is not None:
        assert data.held_out is not None
        rows = min(config.eval.limit or data.held_out.size, data.held_out.size)
        eval_placement = Placement(services, load, barrier=barrier, kind="evaluation group")
        evaluation = Evaluation(services, rows=rows, placement=eval_placement)
        evaluation.bad_rows.restore({}, saved.named_rows if saved else [])
    placed = {"train": placement} if evaluation is None else {"train": placement, "eval": evaluation.placement}
    placements = Placements(load, placed)
    for name in services.replicas:
        # After a restart of the policy: the first weights reach those that are ready, and the others when they are.
        if restarts.is_away(name):
            placements.begin_without(name)
    weights = WeightPublisher(
        services,
        WeightSync(services, members.rollouts, restarts),
        groups=groups,
        placements=placements,
        restarts=restarts,
        on_synced=totals.add_sync,
    )
    return RLMode(
        services,
        groups=groups,
        ledger=ledger,
        weights=weights,
        evaluation=evaluation,
        placements=placements,
        restarts=restarts,
        fingerprint=data.train,
    )


def build_sft(services: Services, members: Members, saved: SavedState | None) -> SFTMode:
    """Build the mode of an SFT run. Raises RunError if the checkpoint does not fit the dataset or the config."""
    policy = members.policy
    assert policy is not None
    assert policy.data is not None
    mode = SFTMode(services, policy.data, _row_order(services, policy.data.train.size))
    _check_resume(saved, mode.fingerprint, services.config.policy.groups_per_step)
    if saved is not None:
        mode.restore(saved)
    return mode


def _row_order(services: Services, size: int) -> RowOrder:
    if size < 1:
        raise RunError("the dataset is empty")
    config = services.config
    return RowOrder(services.order or plain_order(size, seed=config.run.seed, shuffle=config.dataset.shuffle))


def _check_resume(saved: SavedState | None, fingerprint: Fingerprint, groups_per_step: int) -> None:
    """Raise RunError unless the dataset and the number of groups in a step are those of the checkpoint."""
    if saved is None:
        return
    if found := difference(saved.fingerprint, fingerprint):
        raise RunError(
            f"the dataset is not the one that the run began with (they differ in {found}); "
            "resume it with the same files and arguments"
        )
    if saved.groups_per_step != groups_per_step:
        raise RunError(f"the run began with groups_per_step = {saved.groups_per_step}, which a resume cannot change")
