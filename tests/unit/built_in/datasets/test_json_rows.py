"""JSON, CSV and Parquet files, read as they are."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError
from rlx_datasets import HFDataset, jsonl_dataset, parquet_dataset
from rlx_datasets.json_rows import JsonRows

pytestmark = pytest.mark.usefixtures("arrow_cache")

TEXTS = [
    "2024-03-02", "2024-03-02T10:00:00Z", "12:30", "007", "1e5", "1_000", "true", "null", "NaN", "", " 4 ", "3.10",
    "12345678901234567890", "\u2028x\x85y", "½",
]  # fmt: skip
OTHERS = [7, 2.5, True, None, [1, "1"], {"a": None}, 123456789012345678901234567890]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("mixed", [False, True])
def test_text_is_read_as_it_is_in_the_file(mixed, tmp_path):
    answers = TEXTS + (OTHERS if mixed else [])
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "q", "answer": answer} for answer in answers])
    (tmp_path / "folder").mkdir()
    jsonl(tmp_path / "folder" / "train.jsonl", [{"prompt": "q", "answer": answer} for answer in answers])
    columns = {"reference_column": "answer"}
    for dataset in (
        jsonl_dataset(str(file), **columns),
        HFDataset(str(file), **columns),
        HFDataset("json", data_files=str(file), **columns),
        HFDataset(str(tmp_path / "folder"), **columns),
    ):
        read = [dataset.get_reference_answer(index) for index in range(len(dataset))]
        wanted = [{} if answer == {"a": None} else answer for answer in answers]
        assert [(type(one), one) for one in read] == [(type(one), one) for one in wanted]


def test_cells_of_csv_files_are_text(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('prompt,answer\nq,007\nq,2024-03-02\nq,true\nq,1e5\nq,NA\nq,\nq,"a, b"\n')
    dataset = HFDataset(str(file), reference_column="answer")
    wanted = ["007", "2024-03-02", "true", "1e5", "NA", None, "a, b"]
    assert [dataset.get_reference_answer(index) for index in range(7)] == wanted
    (tmp_path / "a.tsv").write_text("prompt\tanswer\nq\t007\n")
    assert HFDataset(str(tmp_path / "a.tsv"), reference_column="answer").get_reference_answer(0) == "007"
    (tmp_path / "b.csv").write_text("prompt;answer\nq;007\n")
    options = {"reference_column": "answer", "load_args": {"sep": ";"}}
    assert HFDataset(str(tmp_path / "b.csv"), **options).get_reference_answer(0) == "007"


ROWS = [{"prompt": "a"}, {"prompt": "b", "x": 1}, {"prompt": "ç"}]
PLAIN = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("\n", "\n\n  \n").encode(),
        PLAIN.rstrip().encode(),
        json.dumps(ROWS, indent=1).encode(),
        gzip.compress(PLAIN.encode(), mtime=0),
        gzip.compress(PLAIN.encode("utf-8-sig"), mtime=0),
        bz2.compress(PLAIN.encode()),
        lzma.compress(PLAIN.encode()),
    ],
)
def test_files_are_read_in_all_forms(content, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    rows = JsonRows([file, file])
    assert list(rows) == [*ROWS, *ROWS]
    assert rows.column_names == ["prompt", "x"]
    assert rows.place(1) != rows.place(2)


def test_large_files_stay_on_disk(tmp_path, monkeypatch):
    file = jsonl(tmp_path / "rows.jsonl", ROWS)
    monkeypatch.setattr("rlx_datasets.json_rows.IN_MEMORY", 10)
    assert list(JsonRows([file])) == ROWS


def test_a_row_names_its_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('\n{"prompt": "a"}\n\n{"prompt": "b"}\n')
    view = make_dataset(jsonl_dataset, {"path": str(file)}, None, None, owner="dataset 'jsonl'")
    assert view.where(1) == f"row 1 of dataset 'jsonl', {file}, line 4"
    part = make_dataset(jsonl_dataset, {"path": str(file), "split": "train[1:]"}, None, None, owner="d")
    assert part.where(0) == f"row 0 of d, {file}, line 4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows: .*rows.jsonl is empty"),
        (b"\n \r\n", "no rows: .*rows.jsonl is empty"),
        (b'{"prompt": "a"}\n{"prompt": \n', "rows.jsonl, line 2 isn't JSON: Expecting value"),
        (b'{"prompt": "a"}\n\n{"prompt": "a"} x\n', "rows.jsonl, line 3 isn't JSON: Extra data"),
        (b'{"prompt": "a"}\n3\n', "rows.jsonl, line 2 is not an object: 3"),
        (b'{"prompt": "a"}\n{"prompt": "a", "prompt": "b"}\n', "rows.jsonl, line 2 has the key 'prompt' twice"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', "rows.jsonl, line 2 isn't UTF-8"),
        (b'[{"prompt": "a"}, 3]', "rows.jsonl, element 2 is not an object: 3"),
        (b'[{"prompt": "a"},', "rows.jsonl isn't JSON"),
        (b'{\n"data": [\n1]}', "rows.jsonl is one object with the keys data"),
        (b"PK\x03\x04abc", "rows.jsonl is a zip archive: unpack it first"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-9], "rows.jsonl can't be decompressed"),
        (b'{"question": "a"}\n', "no column 'prompt' or 'messages'; the columns are: question. Set prompt_column"),
        (b'{"prompt": "a", "messages": []}\n', "both columns 'prompt' and 'messages' are there: choose one"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(content, message, tmp_path, capfd):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    for source, args in [(jsonl_dataset, {"path": str(file)}), (HFDataset, {"path": str(file)})]:
        with pytest.raises(DatasetError, match=message):
            make_dataset(source, args, None, None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none*.jsonl", r"no file matches the pattern '.*none\*.jsonl'"),
        ("[a].jsonl", r"no file matches the pattern '.*\[a\].jsonl'"),
        ("none.jsonl", "the file '.*none.jsonl' does not exist"),
        ("empty", "the folder .*empty has no file that ends with .jsonl"),
    ],
)
def test_a_path_without_files_is_an_error(path, message, tmp_path):
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    jsonl(tmp_path / "empty" / ".hidden" / "a.jsonl", ROWS)
    with pytest.raises(ValueError, match=message):
        jsonl_dataset(str(tmp_path / path))
    with pytest.raises(ValueError, match="path is an empty list"):
        jsonl_dataset([])


def parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["a[x].{}", "a*b?.{}", "two dir é.{}"])
def test_a_path_that_exists_is_not_a_pattern(name, tmp_path):
    for write, read in [(jsonl, jsonl_dataset), (parquet, parquet_dataset), (jsonl, HFDataset), (parquet, HFDataset)]:
        file = tmp_path / name.format(write.__name__)
        write(file, ROWS)
        assert [read(str(file))[index] for index in range(3)] == ["a", "b", "ç"]


def test_damaged_parquet_files_are_named(tmp_path, capfd):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.parquet").write_bytes(b"")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["prompt", "prompt"])
    pyarrow.parquet.write_table(twice, tmp_path / "c.parquet")
    for name, message in [
        ("a", "a.parquet can't be read"),
        ("b", "b.parquet can't be read"),
        ("c", "'prompt' is there"),
    ]:
        with pytest.raises(ValueError, match=message):
            parquet_dataset(str(tmp_path / f"{name}.parquet"))
    assert capfd.readouterr() == ("", "")


TURNS = [
    {"messages": [{"role": "user", "content": "hi"}]},
    {
        "messages": [
            {"role": "user", "content": "7?"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "g", "arguments": {"y": [{"z": "1"}]}}}]},
        ],
        "tools": [{"function": {"name": "f"}}],
        "gold": {"a": "1"},
    },
    {"messages": [{"role": "user", "content": "hi"}], "gold": {"b": "2"}},
]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "arrow", "hf_json"])
def test_keys_that_a_row_lacks_are_absent(kind, tmp_path):
    import datasets

    columns = {"reference_column": "gold"}
    table = [{"messages": None, "tools": None, "gold": None} | row for row in TURNS]
    if kind == "parquet":
        dataset = parquet_dataset(str(parquet(tmp_path / "a.parquet", table)), **columns)
    elif kind == "jsonl":
        dataset = jsonl_dataset(str(jsonl(tmp_path / "a.jsonl", TURNS)), **columns)
    elif kind == "arrow":
        datasets.Dataset.from_list(table).save_to_disk(tmp_path / "saved")
        dataset = HFDataset(str(tmp_path / "saved"), **columns)
    else:
        dataset = HFDataset("json", data_files=[str(jsonl(tmp_path / "a.jsonl", TURNS))], **columns)
    assert dataset[0] == TURNS[0]["messages"]
    assert dataset[1] == {"prompt": TURNS[1]["messages"], "tools": TURNS[1]["tools"]}
    assert [dataset.get_reference_answer(index) for index in range(3)] == [None, {"a": "1"}, {"b": "2"}]


def test_columns_of_the_prompt_come_along(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c"}]
    file = str(jsonl(tmp_path / "a.jsonl", rows))
    assert [jsonl_dataset(file)[index] for index in range(2)] == [{"prompt": "a", "completion": "b"}, "c"]
    assert jsonl_dataset(file, reference_column="completion")[0] == "a"
    chat = [{"role": "user", "content": "a"}]
    assert jsonl_dataset(file, chat=True)[0] == {"prompt": chat, "completion": "b"}
    both = str(jsonl(tmp_path / "b.jsonl", [{"prompt": "a", "messages": chat}]))
    assert jsonl_dataset(both, prompt_column="messages")[0] == chat
    assert jsonl_dataset(both, prompt_column="prompt")[0] == "a"


def test_splits_of_several_files(tmp_path):
    jsonl(tmp_path / "train.jsonl", ROWS)
    jsonl(tmp_path / "test.jsonl", ROWS[:1])
    for split, count in [("train", 3), ("test", 1), ("train[1:]", 2), ("train[:34%]", 1), ("train[:1]+train[2:]", 2)]:
        assert len(HFDataset(str(tmp_path), split=split)) == count
    with pytest.raises(ValueError, match="no split 'eval'; the splits are: train"):
        jsonl_dataset(str(tmp_path / "train.jsonl"), split="eval[:2]")
