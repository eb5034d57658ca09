"""`export_run(run_dir)`: write a checkpoint of a run as a Hugging Face folder, as the run itself does at its end.

The weights are read and written layer by layer in this process: neither engine nor policy ranks are started.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.config.sections.plugins import PluginsConfig
from rlx.earlier.directory import NEWEST, EndedRun, ended_run
from rlx.errors import PluginError, UsageError, attribute
from rlx.files import writing
from rlx.models.select import model_plugin
from rlx.names import EXPORT
from rlx.preflight.checks.plugins import Sources
from rlx.preflight.checks.problems import Problems

if TYPE_CHECKING:
    from rlx.policy.weights.saved_weights import SavedWeights

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class Exported:
    """A folder that was written."""

    path: Path
    step: int
    """Steps that made its weights."""
    best: int | None
    """The best evaluated version of the run, if it looks for one."""
    skipped: tuple[str, ...] = ()
    """A sentence about each newer checkpoint that is damaged."""


def export_run(run_dir: Path, *, step: str | None = None, dtype: str | None = None, to: Path | None = None) -> Exported:
    """Write a Hugging Face folder with the weights of one checkpoint.

    step: a number of steps, `newest` or `best`. Default: the newest checkpoint that isn't damaged.
    dtype: one of DTYPES. Default: each tensor has its dtype in the model that the run began with.
    to: the folder, which must be new or empty. Default: `export` in the run directory, `export_step_<step>` if a step
        is given.

    Raises UsageError for everything that the caller can change, RunError if a file can't be read or written.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: choose one of {', '.join(DTYPES)}.")
    to = to and to.absolute()
    with ended_run(run_dir) as run:
        skipped: list[str] = []
        checkpoint = run.checkpoint(step or NEWEST, skipped.append)
        target = to or run.path / (EXPORT if step is None else f"{EXPORT}_{checkpoint.name}")
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} exists already, and rlx does not replace it. Name another folder with --to.")
        written = _write(run, checkpoint / "policy", dtype, target)
        return Exported(target, written, run.best(), tuple(skipped))


def _write(run: EndedRun, checkpoint: Path, dtype: str | None, target: Path) -> int:
    from rlx.models.plugin import torch_dtype
    from rlx.packers.tokenizer import tokenizer_folder
    from rlx.policy.weights.export import ExportSource, in_source_dtypes, write_folder
    from rlx.policy.weights.hf_folder import model_folder

    folder = model_folder(run.config.model)
    weights = _open_weights(run, folder, checkpoint)
    if dtype is None:
        tensors = in_source_dtypes(weights.buckets(), folder)
    else:
        tensors = (pair for bucket in weights.buckets(torch_dtype(dtype)) for pair in bucket)
    source = ExportSource(folder, tokenizer_folder(run.config.model), run.config.model.chat_template)
    with writing(f"the export {target}"):
        write_folder(target, tensors, source, dtype)
    return weights.step


def _open_weights(run: EndedRun, folder: Path, checkpoint: Path) -> SavedWeights:
    """Build the network on the meta device, as the run does, and open the checkpoint for it."""
    import torch

    from rlx.policy.build import parameters_on_meta
    from rlx.policy.weights.hf_folder import load_hf_config
    from rlx.policy.weights.saved_weights import SavedWeights

    enabled = run.config.plugins
    try:
        # No other plugin of the run: a reward's file may be gone by now.
        plugins = _open_sources(run, PluginsConfig()).model(run.config)
    except PluginError:
        # It may be one that a hooks plugin adds.
        if not enabled.enable:
            raise
        plugins = _open_sources(run, enabled).model(run.config)
    plugin = model_plugin(plugins)
    (name,) = plugins.names("models")
    # After the plugin: its module may register a config class of its own with transformers.
    hf_config = load_hf_config(run.config.model, folder)
    with attribute(plugins.owner("models", name), "building the model"), parameters_on_meta():
        network = plugin.build(hf_config, dtype=torch.float32, attn_implementation=run.config.policy.attention)
        mapper = plugin.weight_mapper(hf_config)
    return SavedWeights(checkpoint, network, mapper)


def _open_sources(run: EndedRun, enabled: PluginsConfig) -> Sources:
    """Open the places where plugins are looked up. Raises UsageError if a hooks plugin in `enabled` can't be used."""
    problems = Problems()
    config = run.config.model_copy(update={"plugins": enabled})
    sources = Sources.open(config, run.loaded.base_dir, problems, run.loaded.script)
    if sources is None:
        raise problems.error(run.loaded.source)
    return sources
