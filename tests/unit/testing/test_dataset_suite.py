from __future__ import annotations

from itertools import count, cycle

import pytest

from rlx import DecoderOnlyLLMDataPacker
from rlx.testing import CharTokenizer, ContractError, check_dataset
from rlx.testing.suites.dataset import RULES


class Rows:
    """A correct dataset; most subclasses break one rule each."""

    rows = ("1+1=", "2+2=", "3+3=")

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def get_reference_answer(self, index):
        return index


class Chatty(Rows):
    """A dataset with all optional methods and parameters."""

    def __init__(self, size: int = 3, *, config=None, tokenizer=None):
        assert tokenizer.encode("1") == [4]
        self.size = size
        self.ready = False

    def setup(self, config, tokenizer):
        assert not self.ready
        self.ready = config.model.path and tokenizer is not None

    def __len__(self):
        return self.size if self.ready else 0

    def __getitem__(self, index):
        return {"messages": [{"role": "user", "content": str(index)}]}

    def query_reference_answer(self, index):
        return {"answer": (index, [1.5, None])}


class Plain(Rows):
    def setup(self, config):
        self.config = config


@pytest.mark.parametrize(
    ("dataset", "args"),
    [
        (Rows, {}),
        (Rows(), {}),
        (Plain, {}),
        (Chatty, {"size": 100}),
        (["1+1=", {"prompt": "2+2=", "answer": "4"}, {"prompt_token_ids": [4, 5]}], {}),
        (lambda count: ["1+1="] * count, {"count": 2}),
    ],
)
def test_datasets_that_keep_the_contract(dataset, args):
    check_dataset(dataset, args=args)


def test_datasets_of_torch_and_hugging_face_keep_the_contract():
    import datasets
    from torch.utils.data import ConcatDataset

    check_dataset(ConcatDataset([Rows(), Plain()]))
    check_dataset(datasets.Dataset.from_list([{"prompt": "1+1=", "answer": "2"}] * 20))


class WithoutLen(Rows):
    __len__ = None


class SetupWithoutConfig(Rows):
    def setup(self): ...


class MissingRow(Rows):
    def __getitem__(self, index):
        return {0: "1+1=", 2: "3+3="}[index]


class SequentialOnly(Rows):
    """Can only be read in order."""

    def __init__(self):
        self.next = 0

    def __getitem__(self, index):
        assert index == self.next, "rows come one after the other"
        self.next += 1
        return "1+1="


class NoReference(Rows):
    def get_reference_answer(self, index):
        return ["2", "4"][index]


class Augmented(Rows):
    numbers = count()

    def __getitem__(self, index):
        return f"{next(self.numbers)}+1="


class RandomPerInstance(Rows):
    numbers = count()

    def __init__(self):
        self.rows = [f"{next(self.numbers)}+1="] * 3


class Growing(RandomPerInstance):
    sizes = cycle((3, 2))

    def __init__(self):
        self.rows = ["1+1="] * next(self.sizes)


class Exclusive(Rows):
    locked = cycle((False, True))

    def __init__(self):
        if next(self.locked):
            raise OSError("the file is locked")


class Questions(Rows):
    def __getitem__(self, index):
        return {"question": "1+1="} if index else "1+1="


class Opaque(Rows):
    def get_reference_answer(self, index):
        return object()


class Misspelt:
    __len__, __getitem__, rows = Rows.__len__, Rows.__getitem__, Rows.rows

    def get_reference_anwser(self, index):
        return "2"


BROKEN = [
    ("opens", Chatty, {"args": {"sise": 3}}, "args of dataset .*Chatty.*: sise: unknown key. Did you mean 'size'"),
    ("opens", Rows(), {"args": {"size": 3}}, "is an object, not a class or function: it takes no args"),
    ("opens", WithoutLen, {}, "its length raised TypeError"),
    ("opens", SetupWithoutConfig, {}, "its setup raised TypeError: .*positional"),
    ("opens", Chatty, {"args": {"size": 0}}, "is empty"),
    ("rows", MissingRow, {}, r"row 1 raised KeyError: 1\n +at .*test_dataset_suite.py:\d+: return {0:"),
    ("rows", SequentialOnly, {}, "rows come one after the other"),
    ("rows", NoReference, {}, "the reference answer of row 2 raised IndexError"),
    ("repeat", Augmented(), {}, r"row 0 was \['\d+\+1=', 0\] and then \['\d+\+1=', 0\]"),
    ("instances", RandomPerInstance, {}, r"row 0 is '\d+\+1=' in one instance and '\d+\+1=' in another"),
    ("instances", Growing, {}, "one instance has 3 rows, another 2"),
    ("instances", Exclusive, {}, "opening it raised OSError: the file is locked"),
    (
        "prompts",
        Questions,
        {},
        r"no column 'prompt' or 'messages'; the columns are: 'question'\n *the same holds for row 2\n",
    ),
    ("prompts", [""], {}, "the prompt is empty"),
    ("transport", Opaque, {}, "row 0 of .*builtins.object is not plain data(.|\n)*the same holds for rows 1, 2"),
    ("reference-name", Misspelt, {}, "get_reference_anwser, which nothing calls\n.*Call it get_reference_answer"),
]


@pytest.mark.parametrize(("rule", "dataset", "options", "text"), BROKEN)
def test_a_broken_rule_is_reported_with_what_was_observed(rule, dataset, options, text):
    with pytest.raises(ContractError, match=text) as caught:
        check_dataset(dataset, **options)
    assert caught.value.rules == [rule]
    assert f"\n{rule}: {RULES[rule]}\n" in str(caught.value)


def test_every_rule_has_a_dataset_that_breaks_it():
    assert {rule for rule, *_ in BROKEN} == set(RULES)


def test_items_may_be_for_a_custom_packer():
    class Asks(DecoderOnlyLLMDataPacker):
        def get_rollout_input(self, item):
            return item["question"]

    class Asked(Rows):
        def __getitem__(self, index):
            return {"question": "1+1="}

    check_dataset(Asked, packer=Asks())
    with pytest.raises(ContractError, match=r"check_dataset\(\.\.\., packer=\.\.\.\)"):
        check_dataset(Asked)


def test_a_missing_chat_template_is_reported():
    bare = CharTokenizer()
    bare.chat_template = None
    with pytest.raises(ContractError, match="has no chat template"):
        check_dataset(Chatty, tokenizer=bare)


def test_the_number_of_checked_rows_is_an_option():
    class One(Rows):
        rows = ("1+1=",) * 50 + (3,) + ("1+1=",) * 50

    check_dataset(One)
    with pytest.raises(ContractError, match="row 50 of dataset"):
        check_dataset(One, rows=101)
