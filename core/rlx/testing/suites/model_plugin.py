"""The contract suite of model plugins: `check_model_plugin`. It needs torch and transformers, and vLLM for `engine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rlx.errors import RlxError
from rlx.models.plugin import ModelPlugin, WeightMapper
from rlx.testing.suites.contract import Broken, demand, guarded

if TYPE_CHECKING:
    from torch import Tensor, nn

RULES: Mapping[str, str] = MappingProxyType(
    {
        "plugin": "It is an `rlx.ModelPlugin`.",
        "meta": "It builds with parameters on the meta device, has a list of decoder layers, and its mapper names the "
        "same tensors for meta tensors as for real ones.",
        "covered": "`hf_to_policy` makes every tensor of the model from the checkpoint, in its shape, and takes every "
        "tensor of the checkpoint.",
        "round-trip": "`policy_to_hf` gives the checkpoint back: names, shapes and values; what it is given in a dtype "
        "it gives in that dtype.",
        "logits": "Its logits are those of transformers on the same checkpoint, in float32.",
        "gradient": "A loss has a finite gradient at every parameter.",
        "engine": "After one sync, a vLLM engine scores tokens as the model does.",
    }
)
TOLERANCE = 1e-4
"""Largest |difference| of logits, and of an engine's log-probabilities, in float32."""


def check_model_plugin(plugin: Any, folder: Path | str, *, engine: bool = False, tolerance: float = TOLERANCE) -> None:
    """Raises ContractError, with every rule of RULES that the plugin breaks on the checkpoint in `folder`.

    folder: a Hugging Face folder with config.json and safetensors weights, small enough for a test.
    engine: also start a real vLLM engine on the folder and sync changed weights into it (about 20 seconds on a CPU).
    tolerance: of logits and log-probabilities.
    """
    __tracebackhide__ = True
    demand(f"model plugin for {folder}", RULES, _broken(plugin, Path(folder), engine, tolerance))


def _broken(plugin: Any, folder: Path, engine: bool, tolerance: float) -> Iterator[Broken]:
    if not isinstance(plugin, ModelPlugin):
        yield Broken("plugin", f"it is a {type(plugin).__name__}", "Make one: rlx.ModelPlugin.of(Model, WeightMapper).")
        return
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    yield from guarded("meta", "Make no parameter outside the constructor.", _of_meta(plugin, config))
    networks: list[nn.Module] = []
    yield from guarded("covered", "Complete hf_to_policy.", _loaded(plugin, config, folder, networks))
    for network in networks:
        mapper = plugin.weight_mapper(config)
        yield from guarded("round-trip", "Correct policy_to_hf.", _of_round_trip(network, mapper, folder))
        yield from guarded("logits", "Correct the forward, or the mapper.", _of_logits(network, folder, tolerance))
        yield from guarded("gradient", "Keep the graph of the forward whole.", _of_gradient(network))
        if engine:
            yield from guarded("engine", "Correct policy_to_hf.", _of_engine(network, mapper, folder, tolerance))


def _of_meta(plugin: ModelPlugin, config: Any) -> Iterator[Broken]:
    from rlx.models.base_model import longest_list
    from rlx.policy.build import parameters_on_meta

    with parameters_on_meta():
        network = _built(plugin, config)
    longest_list(network)
    real = [name for name, parameter in network.named_parameters() if not parameter.is_meta]
    if real:
        yield Broken("meta", f"{', '.join(real[:3])} has memory of its own", "Register parameters as nn.Parameter.")


def _built(plugin: ModelPlugin, config: Any) -> nn.Module:
    import torch

    network: nn.Module = plugin.build(config, dtype=torch.float32, attn_implementation=None)
    return network


def _loaded(plugin: ModelPlugin, config: Any, folder: Path, into: list[nn.Module]) -> Iterator[Broken]:
    from rlx.policy.weights.load import load_weights

    network = _built(plugin, config)
    try:
        load_weights(network, folder, plugin.weight_mapper(config))
    except RlxError as error:
        yield Broken("covered", str(error), "Map each tensor of the checkpoint, and no other.")
        return
    into.append(network.eval())


def _of_round_trip(network: nn.Module, mapper: WeightMapper, folder: Path) -> Iterator[Broken]:
    import torch

    from rlx.policy.parallel.tensors import named_tensors
    from rlx.policy.weights.hf_folder import read_tensors

    theirs, policy = dict(read_tensors(folder)), named_tensors(network)
    made = dict(pair for name, tensor in policy.items() for pair in mapper.policy_to_hf(name, tensor.detach()))
    missing = [name for name in sorted(theirs.keys() - made.keys()) if not _is_among(theirs[name], made)]
    surplus = sorted(made.keys() - theirs.keys())
    if missing or surplus:
        seen = f"missing: {', '.join(missing[:3]) or 'none'}; surplus: {', '.join(surplus[:3]) or 'none'}"
        yield Broken("round-trip", seen, "Give every tensor the name that the checkpoint has for it.")
    for name in sorted(theirs.keys() & made.keys()):
        if made[name].shape != theirs[name].shape:
            shapes = f"{list(made[name].shape)}, not {list(theirs[name].shape)}"
            yield Broken("round-trip", f"{name} has the shape {shapes}", "Undo what hf_to_policy did.")
        elif not torch.equal(made[name].to(theirs[name].dtype), theirs[name]):
            yield Broken("round-trip", f"{name} has other values", "Undo what hf_to_policy did: order, transposition.")
    yield from _of_dtypes(policy, mapper, made)


def _is_among(tensor: Tensor, made: Mapping[str, Tensor]) -> bool:
    """Whether it is there under another name: a checkpoint may hold a tied tensor twice."""
    import torch

    return any(torch.equal(tensor, other) for other in made.values() if other.shape == tensor.shape)


def _of_dtypes(policy: Mapping[str, Tensor], mapper: WeightMapper, made: Mapping[str, Tensor]) -> Iterator[Broken]:
    import torch
    from torch import nn

    for name, tensor in policy.items():
        if not isinstance(tensor, nn.Parameter):
            continue
        meta = torch.empty(tensor.shape, dtype=torch.bfloat16, device="meta")
        for theirs, part in mapper.policy_to_hf(name, meta):
            if theirs not in made or made[theirs].shape != part.shape:
                yield Broken("meta", f"{name} becomes {theirs} {list(part.shape)} for a meta tensor only", "")
            elif part.dtype != torch.bfloat16:
                yield Broken("round-trip", f"{theirs} of bfloat16 came out as {part.dtype}", "Leave dtypes to rlx.")


def _of_logits(network: nn.Module, folder: Path, tolerance: float) -> Iterator[Broken]:
    import torch
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = _tokens(reference.config.get_text_config().vocab_size)
    with torch.no_grad():
        difference = float((_logits(network, tokens) - reference(tokens).logits).abs().max())
    if not difference <= tolerance:
        yield Broken("logits", f"largest difference {difference:.3g}, allowed {tolerance:g}", "Compare layer by layer.")


def _of_gradient(network: nn.Module) -> Iterator[Broken]:
    from torch import nn

    table: Any = max((m for m in network.modules() if isinstance(m, nn.Embedding)), key=lambda m: m.num_embeddings)
    network.zero_grad()
    tokens = _tokens(table.num_embeddings)
    _logits(network, tokens).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        if parameter.grad is None or not bool(parameter.grad.isfinite().all()):
            what = "no gradient" if parameter.grad is None else "a gradient that is not finite"
            yield Broken("gradient", f"{name} has {what}", "Use every parameter in the forward.")


def _of_engine(network: nn.Module, mapper: WeightMapper, folder: Path, tolerance: float) -> Iterator[Broken]:
    import torch
    from torch import nn

    from rlx.policy.parallel.tensors import named_tensors
    from rlx.testing.engine_probe import engine_scores

    source = torch.Generator().manual_seed(0)
    with torch.no_grad():  # an engine that kept what it loaded from the folder must not pass
        for parameter in network.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=source))
    policy = {name: tensor.detach() for name, tensor in named_tensors(network).items()}
    weights = dict(pair for name, tensor in policy.items() for pair in mapper.policy_to_hf(name, tensor))
    vocabulary = max(m.num_embeddings for m in network.modules() if isinstance(m, nn.Embedding))
    tokens = _tokens(vocabulary)
    with torch.no_grad():
        logprobs = _logits(network, tokens)[:, :-1].log_softmax(-1)
    expected = logprobs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    seen = torch.tensor(engine_scores(folder, weights, tokens.tolist()))
    difference = float((seen - expected).abs().max())
    if not difference <= tolerance:
        yield Broken("engine", f"log-probabilities differ by up to {difference:.3g}, allowed {tolerance:g}", "")


def _tokens(vocabulary: int) -> Tensor:
    """[2, 12] int64, the same for the same vocabulary."""
    import torch

    return torch.randint(vocabulary, (2, 12), generator=torch.Generator().manual_seed(1))


def _logits(network: nn.Module, tokens: Tensor) -> Tensor:
    import torch

    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    logits: Tensor = network(input_ids=tokens, position_ids=positions).logits
    return logits.float()
