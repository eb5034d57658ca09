"""Components that a user would write beside a config, and model plugins that are wrong on purpose."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psutil

import rlx


class Sums:
    """`count` of the hundred one-digit additions, from number `first` on."""

    def __init__(self, first, count):
        self.numbers = range(first, first + count)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return "{}+{}=".format(*divmod(self.numbers[index], 10))

    def get_reference_answer(self, index):
        return f"{sum(divmod(self.numbers[index], 10)):02d}"


class Elsewhere(Sums):
    """Sums whose last row differs in the ranks of the policy."""

    def get_reference_answer(self, index):
        last = index == len(self) - 1 and "RANK" in os.environ
        return "00" if last else super().get_reference_answer(index)


def share_right(to_be_evaluated, reference=None, *, bonus=0.0, **kwargs):
    """Return the share of the reference's characters that are right, and a bonus if all are.

    If the file that RLX_TEST_KILL names exists, remove it and kill the engine whose completions are scored.
    """
    order = Path(os.environ.get("RLX_TEST_KILL", "/nowhere"))
    if order.exists():
        order.unlink(missing_ok=True)
        for process in psutil.Process().parent().children():
            if "EngineCore" in " ".join(process.cmdline()):
                process.kill()
        time.sleep(3)
    right = sum(a == b for a, b in zip(to_be_evaluated, reference, strict=False)) / len(reference)
    # A little for variety, so that nearly every group is informative.
    return right + bonus * (to_be_evaluated == reference) + 0.01 * len(set(to_be_evaluated))


def raises(to_be_evaluated, reference=None):
    """Raise, but for the completions with which a reward is tried before a run."""
    if to_be_evaluated not in ("", str(reference)):
        raise KeyError("no such answer")
    return 0.0


def hangs(to_be_evaluated, reference=None):
    """Sleep, but for the completions with which a reward is tried before a run."""
    if to_be_evaluated not in ("", str(reference)):
        time.sleep(3600)
    return 0.0


class Recorder:
    """Appends every hook call to the file that RLX_TEST_CALLS names.

    After step `[meta] hold_step`, waits until the file `[meta] hold` is removed.
    """

    meta = {}

    @rlx.hookimpl
    def rlx_register(self, registry):
        registry.add("rewards", "unused", share_right)
        self._write("register")

    @rlx.hookimpl
    def rlx_configure(self, config):
        self._write("configure")

    @rlx.hookimpl
    def rlx_worker_start(self, process, config):
        self.meta = config.meta
        self._write("worker_start", process=process)

    @rlx.hookimpl
    def rlx_run_start(self, run_dir):
        self._write("run_start", run_dir=str(run_dir))

    @rlx.hookimpl
    def rlx_run_end(self, summary):
        summary["recorder"] = "was here"
        self._write("run_end", status=summary["status"])

    @rlx.hookimpl
    def rlx_model_built(self, model):
        self._write("model_built", tensors=len(list(model.parameters())))

    @rlx.hookimpl
    def rlx_group_scored(self, group):
        for episode in group:
            episode.metrics["letters"] = float(len(episode.text))
        self._write("group_scored", episodes=len(group))

    @rlx.hookimpl
    def rlx_weights_synced(self, version):
        self._write("weights_synced", version=version)

    @rlx.hookimpl
    def rlx_checkpoint_saved(self, path, step):
        self._write("checkpoint_saved", step=step, there=(path / "controller.json").exists())

    @rlx.hookimpl
    def rlx_checkpoint_state(self):
        self._write("checkpoint_state")
        return {"meta": self.meta}

    @rlx.hookimpl
    def rlx_restore_state(self, state):
        self._write("restore_state", state=state)

    @rlx.hookimpl
    def rlx_evaluated(self, step):
        self._write("evaluated", step=step)

    @rlx.hookimpl
    def rlx_rollout_failed(self, error):
        self._write("rollout_failed", error=error)

    @rlx.hookimpl
    def rlx_step_end(self, step, metrics):
        metrics["recorder/step"] = float(step)
        self._write("step_end", step=step)
        hold = Path(self.meta.get("hold", "/nowhere"))
        while step == self.meta.get("hold_step") and hold.exists():
            time.sleep(0.02)

    @rlx.hookimpl
    def rlx_should_stop(self, step):
        self._write("should_stop", step=step)

    def _write(self, hook, **values):
        with Path(os.environ["RLX_TEST_CALLS"]).open("a") as file:
            file.write(json.dumps({"hook": hook, "pid": os.getpid(), **values}) + "\n")


EMBEDDING = "model.embed_tokens.weight"


class Failing:
    """Hooks that raise `text`."""

    def __init__(self, text: str):
        self.text = text

    @rlx.hookimpl
    def rlx_register(self):
        raise RuntimeError(self.text)

    @rlx.hookimpl
    def rlx_worker_start(self):
        raise RuntimeError(self.text)

    @rlx.hookimpl
    def rlx_model_built(self):
        raise RuntimeError(self.text)

    @rlx.hookimpl
    def rlx_step_end(self):
        raise RuntimeError(self.text)


class Stale(rlx.WeightMapper):
    """A mapper that always sends the embedding of the first weights."""

    def __init__(self, hf_config):
        self.kept = None

    def policy_to_hf(self, name, tensor):
        if name == EMBEDDING and not tensor.is_meta:
            self.kept = tensor.clone() if self.kept is None else self.kept
            return [(name, self.kept)]
        return [(name, tensor)]

    def hf_to_policy(self, tensors):
        yield from tensors


class Forgetful(rlx.WeightMapper):
    """A mapper that leaves out one tensor."""

    def __init__(self, hf_config):
        pass

    def policy_to_hf(self, name, tensor):
        return [] if name.endswith("layers.1.mlp.up_proj.weight") else [(name, tensor)]

    def hf_to_policy(self, tensors):
        yield from tensors


def _build(*args, **kwargs):
    from rlx_models.hf import build

    return build(*args, **kwargs)


stale = rlx.ModelPlugin(build=_build, weight_mapper=Stale)
forgetful = rlx.ModelPlugin(build=_build, weight_mapper=Forgetful)
