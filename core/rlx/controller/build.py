"""Puts the parts of a run together, once everybody is ready."""

from __future__ import annotations

from rlx.controller.context import Context
from rlx.controller.groups import resume
from rlx.controller.groups.evaluation import Evaluation
from rlx.controller.groups.groups import Groups
from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.groups.ledger import Ledger
from rlx.controller.groups.placement import Placement
from rlx.controller.groups.staleness import Window
from rlx.controller.health.members import Members
from rlx.controller.modes.rl import RLMode
from rlx.controller.modes.sft import SFTMode
from rlx.controller.modes.weight_sync import WeightSync
from rlx.controller.records.checkpoint import Saved
from rlx.controller.records.summary import Totals
from rlx.datasets.order import Cursor, plain_order
from rlx.errors import RunError
from rlx.fingerprint import Fingerprint, difference

LEDGER_FILE = "ledger.sqlite"


def sampling_work(context: Context, roster: Members, saved: Saved | None, totals: Totals) -> RLMode:
    """RL: window and ledger as the checkpoint left them, load balance, sync, evaluation."""
    config = context.config
    ready = next(iter(roster.rollouts.values()))
    cursor = _cursor(context, ready.data.train.size)
    _check_resume(saved, ready.data.train, config.policy.groups_per_step)
    ledger = Ledger(context.run_dir / LEDGER_FILE, failed=context.failure.fail_threadsafe, resume=saved is not None)
    load = LeastLoaded(context.replicas)
    version = saved.version if saved else 0
    window = _window(context, version)
    barrier = window.max_staleness == 0
    placement = Placement(context, load, barrier=barrier, kind="group")
    groups = Groups(context, window=window, cursor=cursor, ledger=ledger, placement=placement, version=version)
    if saved is not None:
        groups.restore(resume.reconcile(ledger, window, version=version, frontier=saved.next_group_id))
        groups.drops.failed, groups.drops.uninformative = saved.dropped, saved.uninformative
    return RLMode(
        context,
        groups=groups,
        ledger=ledger,
        sync=WeightSync(context, roster.rollouts),
        evaluation=_evaluation(
            context, ready.data.held_out, Placement(context, load, barrier=barrier, kind="evaluation group")
        ),
        fingerprint=ready.data.train,
        load=load,
        synced=totals.synced,
    )


def rows_work(context: Context, roster: Members, saved: Saved | None) -> SFTMode:
    """SFT."""
    policy = roster.policy
    assert policy is not None
    assert policy.data is not None
    work = SFTMode(context, policy.data, _cursor(context, policy.data.train.size))
    _check_resume(saved, work.fingerprint, context.config.policy.groups_per_step)
    return work


def _window(context: Context, version: int) -> Window:
    config = context.config
    return Window(
        max_staleness=config.asynchrony.max_staleness,
        groups_per_step=config.policy.groups_per_step,
        steps=config.run.steps,
        trained=version * config.policy.groups_per_step,
    )


def _cursor(context: Context, size: int) -> Cursor:
    if size < 1:
        raise RunError("the dataset is empty")
    config = context.config
    return Cursor(context.order or plain_order(size, seed=config.run.seed, shuffle=config.dataset.shuffle))


def _evaluation(context: Context, rows: Fingerprint | None, placement: Placement) -> Evaluation | None:
    config = context.config.eval
    if config is None:
        return None
    assert rows is not None
    return Evaluation(context, rows=min(config.limit or rows.size, rows.size), placement=placement)


def _check_resume(saved: Saved | None, fingerprint: Fingerprint, groups_per_step: int) -> None:
    """Positions mean the same rows, and steps the same number of groups, or a resume is another run."""
    if saved is None:
        return
    if found := difference(saved.fingerprint, fingerprint):
        raise RunError(
            f"the dataset is not the one that the run began with (they differ in {found}); "
            "resume it with the same files and arguments"
        )
    if saved.groups_per_step != groups_per_step:
        raise RunError(f"the run began with groups_per_step = {saved.groups_per_step}, which a resume cannot change")
