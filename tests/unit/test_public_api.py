"""The public names: those of `rlx`, and the paths of rlx 0.1 that lead to them for one more release."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import rlx
import rlx.api

DOCS = Path(__file__).parents[2] / "docs"
PUBLIC = [name for name in rlx.__all__ if name != "__version__"]

OLD = {
    "algorithm": ["Algorithm", "StepTotals", "TokenBatch"],
    "base_model": ["Attention", "BaseModel", "CausalLMOutput", "causal_attention", "longest_list"],
    "dataset": ["DatasetView", "check_dataset_args", "is_factory", "offered", "open_dataset"],
    "fingerprint": ["Fingerprint", "Fingerprints", "difference", "differences", "digest", "not_the_same", "spread"],
    "hookspecs": [
        "hookimpl",
        "hookspec",
        "rlx_checkpoint_saved",
        "rlx_configure",
        "rlx_evaluated",
        "rlx_group_scored",
        "rlx_model_built",
        "rlx_register",
        "rlx_rollout_failed",
        "rlx_run_end",
        "rlx_run_start",
        "rlx_should_stop",
        "rlx_step_end",
        "rlx_weights_synced",
        "rlx_worker_start",
    ],
    "launcher": ["Launcher", "ProcessHandle"],
    "logger": ["LiveLogger", "Logger"],
    "model": ["ModelPlugin", "WeightMapper", "packer_word", "supported_model_types", "torch_dtype"],
    "model_registry": ["ModelRegistry"],
    "packer": ["DataPacker", "DecoderOnlyLLMDataPacker", "RolloutOutput", "prompt_token_ids", "sft_trajectories"],
    "packer_calls": ["attributed", "batch_rows", "overrides", "owner_of"],
    "policy_input": ["COLUMNS", "RETOKENIZED", "apply_policy_input", "rehearse_policy_input"],
    "prompt": [
        "Messages",
        "encode_messages",
        "encode_prompt",
        "encode_text",
        "is_messages",
        "prompt_of",
        "prompt_token_ids",
    ],
    "reward": [
        "AnyReward",
        "BoundReward",
        "GROUP_RULE",
        "LIST_HINT",
        "OFFERED",
        "ONE_RULE",
        "SHOWN_CHARACTERS",
        "Score",
        "about",
        "as_number",
        "check_reward_args",
        "group_reward",
        "score_of",
        "scores_of",
        "shown",
        "wanted",
    ],
    "rows": ["check_shape", "indexed"],
    "sft": [
        "COLUMNS",
        "IGNORE_LABEL",
        "pad_token_id",
        "samples_of",
        "sft_trajectories",
        "target_trajectories",
        "to_trajectory",
        "with_target",
    ],
    "signature": ["accepted", "named", "parameters", "takes_any"],
    "tensor_parallel": ["keep_block", "share_slots", "split_block"],
    "turns": ["conversation_trajectories", "encode_target"],
    "types": [
        "Episode",
        "Reward",
        "Segment",
        "SegmentKind",
        "Trajectory",
        "VersionSpan",
        "decode_episodes",
        "encode_episodes",
        "masked_tokens",
        "single_turn",
        "total_of",
    ],
}
"""Every public name of an `rlx.api` module in release 0.1, but for REMOVED."""
REMOVED = {"logger.LoggerClass": "rlx.Logger", "types.to_json": "msgspec.to_builtins"}
"""Old name -> the replacement that the error names."""


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_of_its_own(name):
    found = getattr(rlx, name)
    doc = inspect.cleandoc(found.__doc__ or "")
    assert doc, f"rlx.{name} has no docstring"
    if dataclasses.is_dataclass(found):
        assert not doc.startswith(f"{name}("), f"rlx.{name} has the docstring that dataclass made"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_in_the_api_reference_and_on_another_page(name):
    pages = [path.name for path in DOCS.rglob("*.md") if re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))]
    assert "api.md" in pages
    assert len(pages) > 1


def methods():
    for name in sorted({*PUBLIC} - {"Packer"}):  # rlx.DataPacker documents its methods
        found = getattr(rlx, name)
        if inspect.isclass(found):
            for attribute, value in vars(found).items():
                function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if not attribute.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{attribute}"


@pytest.mark.parametrize("method", methods())
def test_a_public_method_has_a_docstring_or_inherits_one(method):
    name, attribute = method.split(".")
    bases = [rlx.Algorithm, *getattr(rlx, name).__mro__] if name in {"GRPO", "SFT"} else getattr(rlx, name).__mro__
    assert any(inspect.getdoc(vars(base)[attribute]) for base in bases if attribute in vars(base)), method


@pytest.mark.parametrize("name", PUBLIC)
def test_a_module_with_tensors_in_its_signatures_documents_their_shapes(name):
    found = getattr(rlx, name)
    module = sys.modules[found.__module__]
    if "Tensor" in repr(getattr(found, "__annotations__", {})):
        assert "Shapes:" in module.__doc__, f"{module.__name__} has no legend for rlx.{name}"


def test_type_checkers_see_the_same_names():
    source = inspect.getsource(rlx)
    seen = {line.split(" as ")[-1].strip() for line in source.splitlines() if line.startswith("    from rlx.")}
    assert seen | {"lazy_exports"} == set(PUBLIC)


@pytest.mark.parametrize("old", [f"{module}.{name}" for module, names in OLD.items() for name in names])
def test_an_old_path_returns_the_object_and_warns_with_its_new_path(old):
    module, name = old.split(".")
    with pytest.warns(DeprecationWarning, match=rf"^rlx\.api\.{old} is deprecated .*: use rlx\.") as caught:
        found = getattr(importlib.import_module(f"rlx.api.{module}"), name)
    assert len(caught) == 1
    path = str(caught[0].message).rpartition(" ")[2]
    home, _, new = path.rpartition(".")
    assert getattr(importlib.import_module(home), new) is found
    assert home == "rlx" or new not in PUBLIC or getattr(rlx, new) is not found


@pytest.mark.parametrize(
    "old",
    [
        "advantages.group_advantages",
        "aggregation.token_mean",
        "correction.k3",
        "correction.truncated_importance",
        "objectives.clipped_surrogate",
        "objectives.negative_log_likelihood",
    ],
)
def test_the_old_modules_of_losses_return_them_and_warn(old):
    module, name = old.split(".")
    with pytest.warns(DeprecationWarning, match=rf"^rlx\.algorithms\.{old} is deprecated .*: use rlx\.{name}$"):
        assert getattr(importlib.import_module(f"rlx.algorithms.{module}"), name) is getattr(rlx, name)


@pytest.mark.parametrize(("old", "replacement"), REMOVED.items())
def test_the_error_for_a_removed_name_gives_its_replacement(old, replacement):
    module, name = old.split(".")
    with pytest.raises(
        AttributeError, match=rf"'rlx\.api\.{module}' has no attribute '{name}' any more: .*{replacement}"
    ):
        getattr(importlib.import_module(f"rlx.api.{module}"), name)


def test_a_name_that_never_existed_raises_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AttributeError, match=r"no attribute 'Nothing'; it moved to rlx\.episodes$"):
            rlx.api.types.Nothing


USES = {
    "from a module": "from rlx.api.packer import DataPacker",
    "as": "import rlx.api.packer as p; p.DataPacker",
    "from the package": "from rlx.api import packer; packer.DataPacker",
    "importlib": "import importlib; importlib.import_module('rlx.api.packer').DataPacker",
}


@pytest.mark.parametrize("how", USES)
def test_the_warning_points_at_the_users_line(how, tmp_path):
    script = tmp_path / "plugin.py"
    script.write_text(f"import sys\n\n{USES[how]}\n")
    seen = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", script], capture_output=True, text=True, check=True
    )
    line = f"{script}:3: DeprecationWarning: rlx.api.packer.DataPacker is deprecated"
    assert [shown for shown in seen.stderr.splitlines() if "deprecated" in shown and line in shown]
    assert seen.stderr.count("is deprecated") == 1
