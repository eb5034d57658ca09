"""The contract suite of datasets: `check_dataset`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from rlx.config.schema import Config
from rlx.datasets.open import is_factory, make_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import RlxError
from rlx.fingerprint import digest
from rlx.packers.base import DecoderOnlyLLMDataPacker
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.tokenizer import Tokenizer
from rlx.rewards.messages import Call, frame
from rlx.testing.stand_ins.config import example_config
from rlx.testing.stand_ins.tokenizer import CharTokenizer
from rlx.testing.suites.contract import Broken, demand, error_with_line, guarded, name_of

RULES: Mapping[str, str] = MappingProxyType(
    {
        "opens": "It opens with its args, and has __len__ and either __getitem__ or __iter__; `setup` takes (config) "
        "or (config, tokenizer).",
        "rows": "Every row from 0 to len - 1 can be read, in any order, with its reference answer.",
        "repeat": "A row is the same each time it is read.",
        "instances": "All instances have the same rows: every process of a run makes its own instance.",
        "prompts": "An item is text, a list of chat messages, a mapping with `prompt`, `messages` or "
        "`prompt_token_ids`, or anything that its own packer accepts.",
        "transport": "Items and reference answers can be sent to reward processes: text, numbers, lists, mappings, "
        "arrays.",
        "reference-name": "The method for reference answers is `get_reference_answer` or `query_reference_answer`.",
    }
)
_SEED = "Draw with a generator of a fixed seed, sort unordered data, and keep no state between rows."
_REFERENCE_NAMES = ("get_reference_answer", "query_reference_answer")


def check_dataset(
    factory_or_object: object,
    *,
    args: Mapping[str, object] | None = None,
    config: Config | None = None,
    tokenizer: Tokenizer | None = None,
    packer: Packer | None = None,
    rows: int = 16,
) -> None:
    """Check a dataset. Raises ContractError with every rule of RULES that it breaks.

    config, tokenizer: passed to the dataset if it takes them; default: stand-ins.
    packer: the packer for its items, made and set up; default: `DecoderOnlyLLMDataPacker`.
    rows: how many rows are checked, spread over the dataset; at least 2.
    """
    __tracebackhide__ = True
    subject = f"dataset {name_of(factory_or_object)}"
    run_config = config or example_config()
    run_tokenizer = tokenizer if tokenizer is not None else CharTokenizer()
    if packer is None:
        packer = DecoderOnlyLLMDataPacker()
        packer.setup(run_config, run_tokenizer)

    def opened() -> DatasetView:
        return make_dataset(factory_or_object, dict(args or {}), run_config, run_tokenizer, owner=subject)

    demand(subject, RULES, _broken(factory_or_object, opened, packer, run_tokenizer, rows))


def _broken(
    target: object, opened: Callable[[], DatasetView], packer: Packer, tokenizer: Tokenizer, rows: int
) -> Iterator[Broken]:
    yield from _broken_name(target)
    try:
        view = opened()
    except RlxError as error:
        yield Broken("opens", error_with_line(error), "Correct the dataset, or the args of the test.")
        return
    indices = view.sample(rows)
    try:
        first = _read(view, indices)
        again = _read(view, reversed(indices))
    except RlxError as error:
        yield Broken("rows", error_with_line(error), "Make every row readable by its number, in any order.")
        return
    if changed := [index for index in indices if digest(first[index]) != digest(again[index])]:
        index = changed[0]
        yield Broken("repeat", f"row {index} was {first[index]!r:.100} and then {again[index]!r:.100}", _SEED)
    if is_factory(target):
        todo = "Allow several instances to be open at once."
        yield from guarded("instances", todo, _broken_instances(view, opened, first))

    def prompt(index: int) -> object:
        return prompt_token_ids(packer, first[index][0], tokenizer, where=view.where(index))

    def sendable(index: int) -> object:
        item, reference = first[index]
        return frame(Call(0, [""], reference, {"example": item}), view.where(index))

    todo = "Give items one of these forms, or say which packer they are for: check_dataset(..., packer=...)."
    yield from _broken_rows("prompts", first, prompt, todo)
    yield from _broken_rows("transport", first, sendable, "Make items and reference answers plain data.")


def _broken_name(target: object) -> Iterator[Broken]:
    """Yield findings about methods that look like a misspelt `get_reference_answer`."""
    public = [name for name in dir(target) if not name.startswith("_")]
    if any(name in public for name in _REFERENCE_NAMES):
        return
    for name in public:
        if near := difflib.get_close_matches(name, _REFERENCE_NAMES, n=1, cutoff=0.75):
            yield Broken("reference-name", f"it has {name}, which nothing calls", f"Call it {near[0]}.")


def _read(view: DatasetView, indices: Iterable[int]) -> dict[int, list[object]]:
    """Return row number -> item and reference answer."""
    return {index: [view.item(index), view.reference(index)] for index in indices}


def _broken_instances(
    view: DatasetView, opened: Callable[[], DatasetView], first: Mapping[int, list[object]]
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


def _broken_rows(rule: str, rows: Iterable[int], check: Callable[[int], object], todo: str) -> Iterator[Broken]:
    """Yield one finding for all rows that `check` rejects: the first in full, the others by number."""
    errors: dict[int, RlxError] = {}
    for index in rows:
        try:
            check(index)
        except RlxError as error:
            errors[index] = error
    if errors:
        first, *others = errors
        plural = "s" * (len(others) > 1)
        also = f"\nthe same holds for row{plural} {', '.join(map(str, others))}" if others else ""
        yield Broken(rule, error_with_line(errors[first]) + also, todo)
