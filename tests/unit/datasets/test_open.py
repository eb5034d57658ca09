from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from rlx.datasets.open import check_dataset_args, is_factory, make_dataset
from rlx.errors import ConfigError, DatasetError

CONFIG, TOKENIZER = object(), object()


class Rows:
    """A dataset without optional methods; subclasses record the arguments of `setup`."""

    def __init__(self, rows=("a", "b", "c")):
        self.rows = list(rows)
        self.setups = []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class OldForm(Rows):
    def setup(self, config, tokenizer, *args, **kwargs):
        self.setups.append((config, tokenizer, args, kwargs))

    def query_reference_answer(self, idx):
        return f"ref {self.rows[idx]}"


class NewForm(Rows):
    def setup(self, config):
        self.setups.append((config,))

    def get_reference_answer(self, idx):
        return f"got {self.rows[idx]}"


class StarForm(Rows):
    def setup(self, config, *args, **kwargs):
        self.setups.append((config, *args, kwargs))


class FlagForm(Rows):
    def setup(self, config, verbose=False):
        self.setups.append((config, verbose))


class KeywordForm(Rows):
    def setup(self, config, *, tokenizer):
        self.setups.append((config, tokenizer))


class Both(NewForm):
    def query_reference_answer(self, idx):
        raise AssertionError("the other name comes first")


def open_dataset(thing, **args):
    return make_dataset(thing, args, CONFIG, TOKENIZER, owner="dataset 'mine'")


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (OldForm, [(CONFIG, TOKENIZER, (), {})]),
        (NewForm, [(CONFIG,)]),
        (StarForm, [(CONFIG, TOKENIZER, {})]),
        (FlagForm, [(CONFIG, False)]),
        (KeywordForm, [(CONFIG, TOKENIZER)]),
    ],
)
@pytest.mark.parametrize("how", ["instance", "class", "factory", "factory with config"])
def test_setup_is_called_once_for_every_signature_and_kind_of_dataset(cls, expected, how):
    made = []

    def keep(instance):
        made.append(instance)
        return instance

    things = {
        "instance": lambda: keep(cls()),
        "class": lambda: type("Kept", (cls,), {"__init__": lambda self: (cls.__init__(self), made.append(self))[0]}),
        "factory": lambda: lambda: keep(cls()),
        "factory with config": lambda: lambda config: keep(cls()),
    }
    view = open_dataset(things[how]())
    assert [view.item(i) for i in range(len(view))] == ["a", "b", "c"]
    assert len(made) == 1
    assert made[0].setups == expected


@pytest.mark.parametrize(
    ("cls", "expected"),
    [(OldForm, "ref b"), (NewForm, "got b"), (Both, "got b"), (Rows, None), (lambda: ["a", "b"], None)],
)
def test_a_reference_method_that_exists_is_called(cls, expected):
    assert open_dataset(cls).reference(1) == expected


def test_columns_of_a_mapping_are_not_a_reference():
    assert open_dataset([{"prompt": "a", "answer": "b", "reference": "c"}]).reference(0) is None


def test_a_factory_gets_args_config_and_tokenizer():
    seen = {}

    def factory(size, config, *, tokenizer, step=1):
        seen.update(size=size, config=config, tokenizer=tokenizer, step=step)
        return list(range(size))

    assert len(open_dataset(factory, size=4)) == 4
    assert seen == {"size": 4, "config": CONFIG, "tokenizer": TOKENIZER, "step": 1}


def test_a_parameter_annotated_as_config_gets_the_config():
    from rlx import Config

    def factory(settings: Config):
        assert settings is CONFIG
        return ["a"]

    def quoted(settings: "Config", more: "int" = 0):  # noqa: UP037
        assert settings is CONFIG
        return ["a"]

    assert len(open_dataset(factory)) == len(open_dataset(quoted)) == 1


def test_hugging_face_rows():
    import datasets

    view = open_dataset(datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}]))
    assert view.item(1) == {"prompt": "b"}


def test_a_hugging_face_dataset_dict_is_not_a_dataset():
    import datasets

    rows = datasets.Dataset.from_list([{"prompt": "a"}])
    with pytest.raises(DatasetError, match="is a DatasetDict with the keys 'train', and has no rows"):
        open_dataset(datasets.DatasetDict({"train": rows}))
    with pytest.raises(DatasetError, match="is a IterableDataset, which has no __len__"):
        open_dataset(rows.to_iterable_dataset())


class Stream:
    """Rows that can only be read in order; counts how often they are read."""

    def __init__(self, rows, size=None):
        self.rows, self.size, self.readings = rows, len(rows) if size is None else size, 0

    def setup(self, config):
        self.rows = [f"{row}!" for row in self.rows]

    def __len__(self):
        return self.size

    def __iter__(self):
        self.readings += 1
        yield from self.rows

    def get_reference_answer(self, index):
        return f"got {self.rows[index]}"


def test_an_iterable_with_a_length_is_read_once_after_its_setup():
    stream = Stream("abc")
    view = open_dataset(stream)
    assert [view.item(i) for i in (2, 0, 1, 2)] == ["c!", "a!", "b!", "c!"]
    assert view.reference(1) == "got b!"
    assert view.fingerprint() == open_dataset(Stream("abc")).fingerprint()
    assert stream.readings == 1


def test_an_iterable_dataset_of_torch_is_read_too():
    torch_data = pytest.importorskip("torch.utils.data")

    class Rows(torch_data.IterableDataset):
        def __len__(self):
            return 2

        def __iter__(self):
            yield from "ab"

    class Endless(torch_data.IterableDataset):
        def __iter__(self):
            while True:
                yield "a"

    assert [open_dataset(Rows()).item(i) for i in range(2)] == ["a", "b"]
    with pytest.raises(DatasetError, match="is a Endless, which has no __len__"):
        open_dataset(Endless())


@pytest.mark.parametrize(("rows", "size", "seen"), [("ab", 3, "2"), ("abcd", 3, "more than 3"), ("", 1, "0")])
def test_the_length_of_an_iterable_is_checked(rows, size, seen):
    with pytest.raises(DatasetError, match=f"'mine' has a length of {size}, but it yielded {seen} rows. Correct"):
        open_dataset(Stream(rows, size))


def test_an_endless_iterable_is_not_read_forever():
    class Endless(Stream):
        def __iter__(self):
            yield from iter(str, None)

    with pytest.raises(DatasetError, match="yielded more than 2"):
        open_dataset(Endless("ab"))


def test_an_error_in_an_iterable_names_the_dataset():
    class Broken(Stream):
        def __iter__(self):
            yield "a"
            raise OSError("disk gone")

    with pytest.raises(DatasetError, match="dataset 'mine': reading its rows raised OSError: disk gone"):
        open_dataset(Broken("ab"))


def test_references_of_concatenated_and_selected_rows_come_from_their_dataset():
    torch_data = pytest.importorskip("torch.utils.data")
    first, second = OldForm("ab"), NewForm("cde")
    view = open_dataset(torch_data.ConcatDataset([first, torch_data.Subset(second, [2, 0])]))
    assert [view.item(i) for i in range(4)] == ["a", "b", "e", "c"]
    assert [view.reference(i) for i in range(4)] == ["ref a", "ref b", "got e", "got c"]
    assert len(first.setups) == len(second.setups) == 1


def test_a_wrapper_with_its_own_methods_is_not_unwrapped():
    class Wrapper(NewForm):
        def __init__(self):
            super().__init__("ab")
            self.dataset, self.indices = OldForm("xyz"), [0, 1]

    wrapper = Wrapper()
    view = open_dataset(wrapper)
    assert view.reference(1) == "got b"
    assert (len(wrapper.setups), len(wrapper.dataset.setups)) == (1, 0)


def test_args_are_checked_with_suggestions_before_anything_is_called():
    def factory(size=3, config=None):
        raise AssertionError("called")

    with pytest.raises(ConfigError, match=r"dataset 'mine'.*Did you mean 'size'"):
        open_dataset(factory, sise=4)
    with pytest.raises(ConfigError, match="config: rlx sets this itself"):
        check_dataset_args(factory, {"config": 1})
    with pytest.raises(ConfigError, match="takes no args"):
        open_dataset(["a"], size=4)
    check_dataset_args(factory, {"size": 4})


def without_len():
    class Broken:
        def __getitem__(self, index):
            return "abc"[index]

    return Broken()


def broken_len():
    class Broken(Rows):
        def __len__(self):
            raise OSError("no such disk")

    return Broken()


def broken_row():
    class Broken(Rows):
        def __getitem__(self, index):
            return {"a": 1}["question"]

    return Broken()


def broken_setup():
    class Broken(Rows):
        def setup(self, config):
            raise FileNotFoundError("rows.json")

    return Broken()


def broken_reference():
    class Broken(Rows):
        def get_reference_answer(self, index):
            raise IndexError("too far")

    return Broken()


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ([], "dataset 'mine' is empty"),
        (lambda: None, "is a NoneType, which has no __getitem__ and no __iter__"),
        (lambda: 3, "is a int, which has no __getitem__ and no __iter__"),
        (without_len, "is a Broken, which has no __len__. Give it one"),
        (lambda: iter("abc"), "is a str_ascii_iterator, which has no __len__. Give it one, or make a list of its rows"),
        (lambda: {1, 2}, "is a set, which has no order. Sort it into a list"),
        (
            lambda: {"train": ["a"], "test": []},
            "is a dict with the keys 'train', 'test', and has no rows. If they are splits, choose",
        ),
        (lambda: 1 / 0, "dataset 'mine': opening it raised ZeroDivisionError"),
        (broken_len, "dataset 'mine': its length raised OSError: no such disk"),
        (broken_setup, "dataset 'mine': its setup raised FileNotFoundError: rows.json"),
    ],
)
def test_the_error_says_why_a_dataset_cannot_be_opened(thing, message):
    with pytest.raises(DatasetError, match=message):
        open_dataset(thing)


def test_a_row_that_raises_is_named():
    with pytest.raises(DatasetError, match="dataset 'mine': row 2 raised KeyError: 'question'"):
        open_dataset(broken_row).item(2)
    with pytest.raises(DatasetError, match="dataset 'mine': the reference answer of row 1 raised IndexError: too far"):
        open_dataset(broken_reference).reference(1)


def test_fingerprints_depend_on_rows_references_and_length():
    rows = [f"row {i}" for i in range(100)]
    assert open_dataset(OldForm(rows)).fingerprint() == open_dataset(OldForm(rows)).fingerprint()
    others = [OldForm(rows[:99]), OldForm(["x", *rows[1:]]), OldForm([*rows[:-1], "x"]), NewForm(rows), rows]
    prints = [open_dataset(other).fingerprint() for other in [OldForm(rows), *others]]
    assert not any(one == other for one, other in itertools.combinations(prints, 2))


def test_a_fingerprint_is_the_same_in_another_process():
    code = (
        "from rlx.datasets.open import make_dataset\n"
        "class Odd: pass\n"
        "rows = [{'prompt': 'é', 'n': i, 'f': i / 3, 'b': b'x', 's': {'b', 'a', 'c'}, 'o': Odd()} for i in range(40)]\n"
        "print(*make_dataset(rows, {}, None, None).fingerprint().rows)\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert len(set(seen.pop().split())) == 16


@pytest.mark.parametrize(("size", "expected"), [(1, [0]), (3, [0, 1, 2]), (100, [0, 33, 66, 99])])
def test_sample_positions_are_spread_over_the_rows(size, expected):
    assert open_dataset([str(i) for i in range(size)]).sample(4) == expected


def test_classes_and_functions_are_factories_and_objects_are_not():
    assert is_factory(Rows)
    assert is_factory(lambda: ["a"])
    assert not is_factory(Rows())
    assert not is_factory([])
