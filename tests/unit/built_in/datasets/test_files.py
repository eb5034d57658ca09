from __future__ import annotations

import json

import pytest

from rlx.datasets.open import make_dataset
from rlx.errors import ConfigError, DatasetError
from rlx_datasets import jsonl_dataset, parquet_dataset

pytestmark = pytest.mark.usefixtures("arrow_cache")


def rows(*numbers):
    return [{"prompt": f"{n}+{n}?", "gold": str(2 * n)} for n in numbers]


def write_jsonl(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def write_parquet(path, found):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(found), path)


@pytest.fixture(params=[(jsonl_dataset, write_jsonl, "jsonl"), (parquet_dataset, write_parquet, "parquet")])
def kind(request, tmp_path):
    """The factory, a folder with rows 1 and 2 in a file, row 3 in a subfolder and a README, and the file ending."""
    make, write, ending = request.param
    (tmp_path / "data" / "below").mkdir(parents=True)
    write(tmp_path / "data" / f"a.{ending}", rows(1, 2))
    write(tmp_path / "data" / "below" / f"b.{ending}", rows(3))
    (tmp_path / "data" / "README.md").write_text("no rows")
    return make, tmp_path / "data", ending


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.{}"], [1, 2]),
        (["*.{}"], [1, 2]),
        (["a.{}", "below/b.{}"], [1, 2, 3]),
        (["below/b.{}", "a.{}"], [3, 1, 2]),
        ([""], [1, 2, 3]),
    ],
)
def test_paths_may_be_a_file_a_pattern_a_list_or_a_folder(kind, paths, expected):
    make, folder, ending = kind
    found = [str(folder / path.format(ending)) for path in paths]
    dataset = make(found[0] if len(found) == 1 else found, reference_column="gold")
    assert [dataset[i] for i in range(len(dataset))] == [f"{n}+{n}?" for n in expected]
    assert [dataset.get_reference_answer(i) for i in range(len(dataset))] == [str(2 * n) for n in expected]


def test_split_slices_and_a_system_prompt(kind):
    make, folder, _ = kind
    head, tail = (make(str(folder), split=split, system_prompt="Add.") for split in ("train[:2]", "train[2:]"))
    assert (len(head), len(tail)) == (2, 1)
    assert tail[0] == [{"role": "system", "content": "Add."}, {"role": "user", "content": "3+3?"}]


def test_errors_name_the_file_or_column(kind):
    make, folder, ending = kind
    for args, error, message in [
        ({"path": str(folder), "promt_column": "a"}, ConfigError, "Did you mean 'prompt_column'"),
        ({"path": str(folder), "prompt_column": "question"}, DatasetError, "the columns are: prompt, gold"),
        ({"path": str(folder / f"c.{ending}")}, DatasetError, f"c.{ending}"),
    ]:
        with pytest.raises(error, match=message):
            make_dataset(make, args, None, None)
