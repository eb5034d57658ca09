"""The contract suite of datasets: `check_dataset`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from rlx.datasets.open import is_factory, make_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import RewardError, RlxError
from rlx.fingerprint import digest
from rlx.packers.base import DecoderOnlyLLMDataPacker
from rlx.packers.prompt import prompt_token_ids
from rlx.rewards.messages import Call, frame
from rlx.testing.suites.contract import Broken, demand, example_config, guarded, name_of, told
from rlx.testing.tokenizer import CharTokenizer

RULES: Mapping[str, str] = MappingProxyType(
    {
        "opens": "It opens with its args, has __len__, and __getitem__ or __iter__; `setup` takes (config) or "
        "(config, tokenizer).",
        "rows": "Every row from 0 to len - 1 can be read, in any order, with its reference answer.",
        "repeat": "A row is the same whenever it is read.",
        "instances": "Another instance has the same rows: every process of a run makes its own.",
        "prompts": "An item is text, a list of chat messages, a mapping with `prompt`, `messages` or "
        "`prompt_token_ids`, or what its own packer takes.",
        "transport": "Items and reference answers can be sent to the processes of rewards: text, numbers, lists, "
        "mappings, arrays.",
        "reference-name": "The reference answer's method is `get_reference_answer` or `query_reference_answer`.",
    }
)
_SEED = "Draw with a generator of a fixed seed, sort what has no order, and keep no state between rows."
_FORMS = "Give items of these forms, or say which packer they are for: check_dataset(..., packer=...)."
_REFERENCE_NAMES = ("get_reference_answer", "query_reference_answer")


def check_dataset(
    factory_or_object: Any,
    *,
    args: Mapping[str, Any] | None = None,
    config: Any = None,
    tokenizer: Any = None,
    packer: Any = None,
    rows: int = 16,
) -> None:
    """Raises ContractError, with every rule of RULES that the dataset breaks.

    config, tokenizer: what it gets where it takes them; default: a stand-in.
    packer: the one that its items are for, made and set up; default: `DecoderOnlyLLMDataPacker`.
    rows: how many are looked at, spread over the dataset; at least 2.
    """
    __tracebackhide__ = True
    subject = f"dataset {name_of(factory_or_object)}"
    config = example_config() if config is None else config
    tokenizer = CharTokenizer() if tokenizer is None else tokenizer
    if packer is None:
        packer = DecoderOnlyLLMDataPacker()
        packer.setup(config, tokenizer)

    def opened() -> DatasetView:
        return make_dataset(factory_or_object, dict(args or {}), config, tokenizer, owner=subject)

    demand(subject, RULES, _broken(factory_or_object, opened, packer, tokenizer, rows))


def _broken(target: Any, opened: Callable[[], DatasetView], packer: Any, tokenizer: Any, rows: int) -> Iterator[Broken]:
    yield from _misnamed(target)
    try:
        view = opened()
    except RlxError as error:
        yield Broken("opens", told(error), "Correct the dataset, or the args of the test.")
        return
    indices = view.sample(rows)
    try:
        first = _read(view, indices)
        again = _read(view, reversed(indices))
    except RlxError as error:
        yield Broken("rows", told(error), "Make every row readable by its number, whatever was read before.")
        return
    if changed := [index for index in indices if digest(first[index]) != digest(again[index])]:
        index = changed[0]
        yield Broken("repeat", f"row {index} was {first[index]!r:.100} and then {again[index]!r:.100}", _SEED)
    if is_factory(target):
        yield from guarded("instances", "Let several be open at once.", _differing(view, opened, first))
    yield from _gathered("prompts", _no_prompts(view, first, packer, tokenizer), _FORMS)
    yield from _gathered("transport", _untransportable(view, first), "Make items and reference answers plain data.")


def _read(view: DatasetView, indices: Iterable[int]) -> dict[int, list[Any]]:
    """Row number -> item and reference answer."""
    return {index: [view.item(index), view.reference(index)] for index in indices}


def _misnamed(target: Any) -> Iterator[Broken]:
    """A method that was meant to give reference answers, and would never be called."""
    public = [name for name in dir(target) if not name.startswith("_")]
    if any(name in public for name in _REFERENCE_NAMES):
        return
    for name in public:
        if near := difflib.get_close_matches(name, _REFERENCE_NAMES, n=1, cutoff=0.75):
            yield Broken("reference-name", f"it has {name}, which nothing calls", f"Call it {near[0]}.")


def _differing(
    view: DatasetView, opened: Callable[[], DatasetView], first: Mapping[int, list[Any]]
) -> Iterator[Broken]:
    other = opened()
    if len(view) != len(other):
        yield Broken("instances", f"one instance has {len(view)} rows, another {len(other)}", _SEED)
        return
    rows = _read(other, first)
    if differ := [index for index in first if digest(first[index]) != digest(rows[index])]:
        index = differ[0]
        seen = f"row {index} is {first[index][0]!r:.100} in one instance and {rows[index][0]!r:.100} in another"
        yield Broken("instances", seen, _SEED)


def _no_prompts(view: DatasetView, rows: Mapping[int, list[Any]], packer: Any, tokenizer: Any) -> dict[int, str]:
    """Row number -> why it is no prompt."""
    failures = {}
    for index, (item, _) in rows.items():
        try:
            prompt_token_ids(packer, item, tokenizer, where=view.where(index))
        except RlxError as error:
            failures[index] = told(error)
    return failures


def _untransportable(view: DatasetView, rows: Mapping[int, list[Any]]) -> dict[int, str]:
    """Row number -> why it can't be sent."""
    failures = {}
    for index, (item, reference) in rows.items():
        try:
            frame(Call(0, [""], reference, {"example": item}), view.where(index))
        except RewardError as error:
            failures[index] = str(error)
    return failures


def _gathered(rule: str, failures: Mapping[int, str], todo: str) -> Iterator[Broken]:
    """One report of all rows: the first in full, the others by number."""
    if failures:
        first, *others = failures
        also = f"\nand so rows {', '.join(map(str, others))}" if others else ""
        yield Broken(rule, failures[first] + also, todo)
