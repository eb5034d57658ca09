"""The contract suite of model plugins: `check_model_plugin`. It needs torch and transformers, and vLLM for `engine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rlx.errors import RlxError
from rlx.models.plugin import ModelPlugin, WeightMapper
from rlx.testing.suites.contract import Broken, Raised, attempt, demand, guarded

if TYPE_CHECKING:
    from torch import Tensor, nn

RULES: Mapping[str, str] = MappingProxyType(
    {
        "plugin": "It is an `rlx.ModelPlugin`.",
        "meta": "It can be built with parameters on the meta device, has a list of decoder layers, and its mapper "
        "returns the same names for meta tensors as for real ones.",
        "covered": "`hf_to_policy` makes every tensor of the model, in its shape, from the checkpoint, and uses every "
        "tensor of the checkpoint.",
        "round-trip": "`policy_to_hf` returns the checkpoint's tensors: names, shapes, values, and the dtype that it "
        "was given.",
        "logits": "Its logits are those of transformers on the same checkpoint, in float32.",
        "gradient": "A loss has a finite gradient at every parameter.",
        "engine": "After one sync, a vLLM engine scores tokens as the model does.",
    }
)
TOLERANCE = 1e-4
"""Largest |difference| of logits, and of an engine's log-probabilities, in float32."""


def check_model_plugin(
    plugin: object, folder: Path | str, *, engine: bool = False, tolerance: float = TOLERANCE
) -> None:
    """Check a model plugin on a checkpoint. Raises ContractError with every rule of RULES that it breaks.

    folder: a Hugging Face folder with config.json and safetensors weights, small enough for a test.
    engine: also start a real vLLM engine on the folder and sync changed weights into it (about 20 seconds on a CPU).
    tolerance: largest difference of logits and log-probabilities.
    """
    __tracebackhide__ = True

    def broken() -> Iterator[Broken]:
        if not isinstance(plugin, ModelPlugin):
            todo = "Make one: rlx.ModelPlugin.of(Model, WeightMapper)."
            yield Broken("plugin", f"it is a {type(plugin).__name__}", todo)
            return
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder)
        yield from guarded("meta", "Make no parameter outside the constructor.", _broken_meta(plugin, config))
        model = attempt(lambda: _Model.load(plugin, config, Path(folder)))
        if isinstance(model, Raised):
            known = isinstance(model.error, RlxError)
            todo = "Map each tensor of the checkpoint, and no other." if known else "Complete hf_to_policy."
            yield Broken("covered", str(model.error) if known else str(model), todo)
            return
        yield from guarded("round-trip", "Correct policy_to_hf.", model.round_trip())
        yield from guarded("logits", "Correct the forward, or the mapper.", model.logits(tolerance))
        yield from guarded("gradient", "Keep the graph of the forward whole.", model.gradient())
        if engine:
            yield from guarded("engine", "Correct policy_to_hf.", model.engine(tolerance))

    demand(f"model plugin for {folder}", RULES, broken())


def _build(plugin: ModelPlugin, config: object) -> nn.Module:
    import torch

    network: nn.Module = plugin.build(config, dtype=torch.float32, attn_implementation=None)
    return network


def _broken_meta(plugin: ModelPlugin, config: object) -> Iterator[Broken]:
    from rlx.models.base_model import longest_list
    from rlx.policy.build import parameters_on_meta

    with parameters_on_meta():
        network = _build(plugin, config)
    longest_list(network)
    real = [name for name, parameter in network.named_parameters() if not parameter.is_meta]
    if real:
        yield Broken("meta", f"{', '.join(real[:3])} has memory of its own", "Register parameters as nn.Parameter.")


@dataclass(frozen=True)
class _Model:
    """The network with the weights of the checkpoint in `folder`; its methods yield findings."""

    network: nn.Module
    mapper: WeightMapper
    folder: Path

    @classmethod
    def load(cls, plugin: ModelPlugin, config: object, folder: Path) -> _Model:
        """Build the network and load the checkpoint. Raises RlxError if the mapper doesn't cover all tensors."""
        from rlx.policy.weights.load import load_weights

        network, mapper = _build(plugin, config), plugin.weight_mapper(config)
        load_weights(network, folder, mapper)
        return cls(network.eval(), mapper, folder)

    def round_trip(self) -> Iterator[Broken]:
        import torch

        from rlx.policy.weights.hf_folder import read_tensors

        theirs, made = dict(read_tensors(self.folder)), self._hf_tensors()
        # A checkpoint may hold a tied tensor twice: then its value is among ours, under its other name.
        missing = [
            name
            for name in sorted(theirs.keys() - made.keys())
            if not any(torch.equal(theirs[name], other) for other in made.values())
        ]
        surplus = sorted(made.keys() - theirs.keys())
        if missing or surplus:
            seen = f"missing: {', '.join(missing[:3]) or 'none'}; surplus: {', '.join(surplus[:3]) or 'none'}"
            yield Broken("round-trip", seen, "Give every tensor the name that it has in the checkpoint.")
        for name in sorted(theirs.keys() & made.keys()):
            if made[name].shape != theirs[name].shape:
                shapes = f"{list(made[name].shape)}, not {list(theirs[name].shape)}"
                yield Broken("round-trip", f"{name} has the shape {shapes}", "Undo the changes of hf_to_policy.")
            elif not torch.equal(made[name].to(theirs[name].dtype), theirs[name]):
                todo = "Undo the changes of hf_to_policy: order, transposition."
                yield Broken("round-trip", f"{name} has other values", todo)
        yield from self.meta_tensors(made)

    def meta_tensors(self, made: Mapping[str, Tensor]) -> Iterator[Broken]:
        """Compare the mapper's names, shapes and dtypes for meta tensors with those of `made`."""
        import torch
        from torch import nn

        for name, tensor in self._policy_tensors().items():
            if not isinstance(tensor, nn.Parameter):
                continue
            meta = torch.empty(tensor.shape, dtype=torch.bfloat16, device="meta")
            for theirs, part in self.mapper.policy_to_hf(name, meta):
                if theirs not in made or made[theirs].shape != part.shape:
                    seen = f"{name} becomes {theirs} {list(part.shape)} for a meta tensor only"
                    yield Broken("meta", seen, "")
                elif part.dtype != torch.bfloat16:
                    yield Broken("round-trip", f"{theirs} of bfloat16 came out as {part.dtype}", "Leave dtypes to rlx.")

    def logits(self, tolerance: float) -> Iterator[Broken]:
        import torch
        from transformers import AutoModelForCausalLM

        reference = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        tokens = _tokens(reference.config.get_text_config().vocab_size)
        with torch.no_grad():
            difference = float((self._forward(tokens) - reference(tokens).logits).abs().max())
        if not difference <= tolerance:
            seen = f"largest difference {difference:.3g}, allowed {tolerance:g}"
            yield Broken("logits", seen, "Compare layer by layer.")

    def gradient(self) -> Iterator[Broken]:
        self.network.zero_grad()
        tokens = _tokens(self._vocabulary())
        self._forward(tokens).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).sum().backward()  # type: ignore[no-untyped-call]
        for name, parameter in self.network.named_parameters():
            if parameter.grad is None or not bool(parameter.grad.isfinite().all()):
                what = "no gradient" if parameter.grad is None else "a gradient that is not finite"
                yield Broken("gradient", f"{name} has {what}", "Use every parameter in the forward.")

    def engine(self, tolerance: float) -> Iterator[Broken]:
        import torch

        from rlx.testing.suites.engine_probe import engine_scores

        source = torch.Generator().manual_seed(0)
        with torch.no_grad():  # an engine that kept the weights of the folder must not pass
            for parameter in self.network.parameters():
                parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=source))
        tokens = _tokens(self._vocabulary())
        with torch.no_grad():
            logprobs = self._forward(tokens)[:, :-1].log_softmax(-1)
        expected = logprobs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
        seen = torch.tensor(engine_scores(self.folder, self._hf_tensors(), tokens.tolist()))
        difference = float((seen - expected).abs().max())
        if not difference <= tolerance:
            yield Broken("engine", f"log-probabilities differ by up to {difference:.3g}, allowed {tolerance:g}", "")

    def _policy_tensors(self) -> dict[str, Tensor]:
        from rlx.policy.parallel.tensors import named_tensors

        return named_tensors(self.network)

    def _hf_tensors(self) -> dict[str, Tensor]:
        policy = self._policy_tensors().items()
        return dict(pair for name, tensor in policy for pair in self.mapper.policy_to_hf(name, tensor.detach()))

    def _vocabulary(self) -> int:
        from torch import nn

        return max(module.num_embeddings for module in self.network.modules() if isinstance(module, nn.Embedding))

    def _forward(self, tokens: Tensor) -> Tensor:
        """Return logits, float32, [B, T, V]."""
        import torch

        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        logits: Tensor = self.network(input_ids=tokens, position_ids=positions).logits
        return logits.float()


def _tokens(vocabulary: int) -> Tensor:
    """Return token ids, int64, [2, 12]: the same for the same vocabulary."""
    import torch

    return torch.randint(vocabulary, (2, 12), generator=torch.Generator().manual_seed(1))
