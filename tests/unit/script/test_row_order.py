"""The row order of a launch script's samplers."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from rlx.config.schema import Config
from rlx.datasets.open import make_dataset
from rlx.datasets.order import RowOrder
from rlx.errors import PluginError
from rlx.script.launch_worker import ScriptParts
from rlx.script.plugins import ScriptPlugins
from rlx.script.row_order import ScriptOrder, open_order

CONFIG = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "policy": {"groups_per_step": 2}})


class Backwards:
    def __init__(self, dataset, num_replicas, rank, shuffle):
        assert (num_replicas, rank, shuffle) == (1, 0, True)
        self.size, self.epoch = len(dataset), None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter([(row + self.epoch - 1) % self.size for row in reversed(range(self.size))])


class Pairs:
    def __init__(self, sampler, batch_size, drop_last):
        self.sampler, self.size = sampler, batch_size

    def __iter__(self):
        rows = list(self.sampler)
        return iter([rows[i : i + self.size] for i in range(0, len(rows) - self.size + 1, self.size)])


class Shuffled:
    """A random order without its own seed."""

    def __init__(self, data_source):
        self.rows = list(range(len(data_source)))

    def __iter__(self):
        return iter(random.sample(self.rows, len(self.rows)))


def order(size=5, **parts):
    view = make_dataset([f"row {i}" for i in range(size)], {}, CONFIG, None)
    return ScriptOrder(ScriptParts(**parts), view, CONFIG, "entry.py")


def test_a_sampler_sets_the_order_and_epochs_count_from_one():
    rows = RowOrder(order(sampler=Backwards))
    assert rows.rows(0, 10) == [4, 3, 2, 1, 0, 0, 4, 3, 2, 1]


def test_a_random_sampler_is_reproducible_per_epoch():
    one, two = order(sampler=Shuffled, size=50), order(sampler=Shuffled, size=50)
    first = one(3)
    random.random()
    assert two(3) == first != two(4)


def test_a_sampler_may_be_an_instance():
    assert order(sampler=[4, 2, 0])(0) == [4, 2, 0]


def test_torch_samplers_are_accepted():
    from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler

    assert sorted(order(sampler=DistributedSampler)(0)) == [0, 1, 2, 3, 4]
    assert order(sampler=RandomSampler)(1) == order(sampler=RandomSampler)(1)
    assert len(order(sampler=RandomSampler, batch_sampler=BatchSampler)(0)) == 4


def test_a_batch_sampler_groups_rows_into_steps():
    assert order(sampler=Backwards, batch_sampler=Pairs)(0) == [4, 3, 2, 1]
    plain = order(batch_sampler=Pairs)
    assert plain(0) != plain(1)
    assert plain(0) == order(batch_sampler=Pairs)(0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"sampler": lambda dataset: [7]}, "gave 7, which isn't a row of a dataset of 5 rows"),
        ({"sampler": lambda dataset: ["x"]}, "gave 'x', which isn't a row"),
        ({"sampler": lambda dataset: []}, "gave 0 rows for epoch 0"),
        ({"sampler": lambda dataset: 1 / 0}, "making it raised ZeroDivisionError"),
        ({"batch_sampler": [[0, 1], [2]]}, r"a batch has 1 rows, and a step \[policy\] groups_per_step = 2"),
    ],
)
def test_errors_name_the_launch_script(parts, message):
    with pytest.raises(PluginError, match=message) as caught:
        order(**parts)(0)
    assert "entry.py" in str(caught.value)


def test_epochs_of_different_lengths_are_refused():
    class Growing(Backwards):
        def __iter__(self):
            return iter(range(self.epoch))

    made = order(sampler=Growing)
    made(0)
    with pytest.raises(PluginError, match="gave 2 rows for epoch 1, and 1 for the first one"):
        made(1)


def test_a_dataset_that_is_open_is_not_opened_again(script):
    made = script("import rlx\nrlx.launch_worker(sampler=[2, 0, 1])")
    assert made.parts.given == ("sampler",)
    plugins = SimpleNamespace(script=ScriptPlugins(made, CONFIG))  # can't load a dataset
    view = make_dataset(["a", "b", "c"], {}, CONFIG, None)
    assert open_order(plugins, CONFIG, view)(0) == [2, 0, 1]
