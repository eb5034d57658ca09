"""The model plugin `hf`: builds any Hugging Face causal LM, and maps its tensors to checkpoint names.

Rules:

* transformers has a table, for each architecture, of how checkpoint tensors become a module's parameters (stacked
  experts, renamed parts). Both directions here use it; nothing depends on a model's name.
* Each parameter is written by itself: an architecture whose checkpoints merge several parameters into one tensor needs
  its own plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rlx import ModelPlugin, PluginError, UsageError, WeightMapper

if TYPE_CHECKING:  # a model that `rlx check` knows without building it needs no torch
    import torch
    from torch import Tensor, nn


def build(hf_config: Any, *, dtype: torch.dtype | None = None, attn_implementation: str | None = None) -> nn.Module:
    """Build the causal LM that the config describes, on the current default device; by default in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    # Whether code in the model's folder may run was decided when its config was loaded.
    own_code = type(hf_config).__module__.startswith("transformers_modules.")
    try:
        # A copy for each model: setting one's attention writes to its config.
        model: nn.Module = AutoModelForCausalLM.from_config(
            deepcopy(hf_config),
            dtype=dtype or torch.float32,
            attn_implementation=attn_implementation,
            trust_remote_code=own_code,
        )
    except ValueError as error:
        if attn_implementation is not None and "attn_implementation" in str(error):
            raise UsageError(
                f"[policy] attention = {attn_implementation!r}: transformers can't use it for this model: {error}"
            ) from error
        if "Unrecognized configuration class" not in str(error):
            raise
        raise UsageError(
            f"transformers has no causal language model of model_type {hf_config.model_type!r}. Install a "
            "plugin that has one, or name it as [model] plugin."
        ) from error
    return model


class HFWeightMapper(WeightMapper):
    """Maps tensors with transformers' own conversion table."""

    def __init__(self, hf_config: Any) -> None:
        self._config = hf_config

    def policy_to_hf(self, name: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
        from transformers.core_model_loading import revert_weight_conversion

        if not self._conversions:
            return [(name, tensor)]
        return list(revert_weight_conversion(self._model, {name: tensor}).items())

    def hf_to_policy(self, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield each policy tensor once all of its parts have arrived. Tensors with unknown names pass unchanged."""
        waiting: dict[str, dict[str, Tensor]] = {}
        for given, tensor in tensors:
            name = self._whole_name(given)
            target = self._target_of.get(name)
            if target is None:
                if not self._ignored(name):
                    yield name, tensor
                continue
            parts = waiting.setdefault(target, {})
            parts[name] = tensor
            if len(parts) == len(self._parts_of[target]):
                yield target, self._joined(target, waiting.pop(target))
        for parts in waiting.values():
            yield from parts.items()

    @cached_property
    def _model(self) -> Any:
        import torch

        with torch.device("meta"):
            model: Any = build(self._config)
        model._weight_conversions = _conversions(model)  # noqa: SLF001 - read by `revert_weight_conversion`
        return model

    @property
    def _conversions(self) -> list[Any]:
        conversions: list[Any] = self._model._weight_conversions  # noqa: SLF001
        return conversions

    @cached_property
    def _parts_of(self) -> dict[str, list[str]]:
        """Policy name -> names of the checkpoint tensors that make it up."""
        kept = set(self._model.state_dict(keep_vars=True))
        named = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        return {
            name: [part for part, _ in self.policy_to_hf(name, tensor)]
            for name, tensor in named.items()
            if name in kept
        }

    @cached_property
    def _target_of(self) -> dict[str, str]:
        return {part: name for name, parts in self._parts_of.items() for part in parts}

    def _joined(self, target: str, parts: dict[str, Tensor]) -> Tensor:
        from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

        converters = [entry for entry in self._conversions if isinstance(entry, WeightConverter)]
        renamings = [entry for entry in self._conversions if isinstance(entry, WeightRenaming)]
        by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
        converter: Any = None
        for name in sorted(parts, key=dot_natural_key):
            renamed, pattern = rename_source_key(name, renamings, converters)
            if pattern is None:
                return parts[name]
            converter = converter or deepcopy(by_pattern[pattern])
            converter.add_tensor(renamed, name, pattern, parts[name])
        made = converter.convert(target, model=self._model, config=self._config)
        tensor: Any = made[target]
        whole: Tensor = tensor[0] if isinstance(tensor, list) else tensor
        return whole

    def _whole_name(self, name: str) -> str:
        """Return the causal LM's name of a tensor. A checkpoint of the decoder alone (gpt2, bloom) lacks its prefix."""
        whole = f"{self._model.base_model_prefix}.{name}"
        return whole if name not in self._target_of and whole in self._target_of else name

    def _ignored(self, name: str) -> bool:
        """Return whether the architecture declares that it ignores this tensor of a checkpoint."""
        patterns = self._model._keys_to_ignore_on_load_unexpected or ()  # noqa: SLF001 - transformers has no public name
        return any(re.search(pattern, name) for pattern in patterns)


def _conversions(model: Any) -> list[Any]:
    """Return the table's entries for this model, checkpoint -> module. Raises PluginError if one can't be reversed."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import PrefixChange, WeightConverter

    # An optional prefix isn't written, as in `save_pretrained` of a new model.
    entries = [e for e in get_model_conversion_mapping(model, add_legacy=False) if not isinstance(e, PrefixChange)]
    splitting = [e for e in entries if isinstance(e, WeightConverter) and len(e.target_patterns) > 1]
    for entry in splitting:
        undo = entry.reverse_transform()
        used = [name for name, _ in model.named_parameters() if undo.rename_source_key(name)[1] is not None]
        if used:
            merged = ", ".join(entry.source_patterns)
            raise PluginError(
                f"Checkpoints of {type(model).__name__} hold {merged} as one tensor, which the model splits ({used[0]} "
                "...). The model plugin 'hf' cannot write that back: set [model] plugin to one that can."
            )
    return entries


plugin = ModelPlugin(build=build, weight_mapper=HFWeightMapper)
