from __future__ import annotations

import sys
import types

import pytest

from rlx.errors import UsageError
from rlx_datasets import Gsm8kDataset, MathDapoDataset, modelscope_load_dataset
from rlx_datasets.modelscope import SWITCH

ROW = {"question": "Two and two?", "answer": "#### 4"}


@pytest.fixture
def requested(monkeypatch):
    """The calls of a stand-in for the package, which itself can only load from the network."""
    calls = []

    class MsDataset:
        @staticmethod
        def load(dataset_name, **kwargs):
            calls.append((dataset_name, kwargs))
            dapo = {"prompt": [{"role": "user", "content": "?"}], "reward_model": {"ground_truth": "4"}}
            return [ROW] if "gsm8k" in dataset_name else [dapo]

    monkeypatch.setitem(sys.modules, "modelscope", types.ModuleType("modelscope"))
    package = types.ModuleType("modelscope.msdatasets")
    package.MsDataset = MsDataset
    monkeypatch.setitem(sys.modules, "modelscope.msdatasets", package)
    return calls


@pytest.mark.parametrize("value", [None, "", "0", "false", "False"])
def test_a_switch_that_is_off_loads_nothing(monkeypatch, requested, value):
    monkeypatch.delenv(SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    assert modelscope_load_dataset("AI-ModelScope/gsm8k", subset_name="main", split="train") is None
    assert requested == []


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_a_switch_that_is_on_loads_from_modelscope(monkeypatch, requested, value):
    monkeypatch.setenv(SWITCH, value)
    assert modelscope_load_dataset("AI-ModelScope/gsm8k", subset_name="main", split="train") == [ROW]
    assert requested == [("AI-ModelScope/gsm8k", {"subset_name": "main", "split": "train"})]


def test_an_invalid_switch_is_an_error(monkeypatch):
    monkeypatch.setenv(SWITCH, "yes please")
    with pytest.raises(UsageError, match="RLX_USE_MODELSCOPE = 'yes please': set it to 1 or 0"):
        modelscope_load_dataset("a/b")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(UsageError, match=r"RLX_USE_MODELSCOPE is set.*pip install 'modelscope\[datasets\]', or unset"):
        modelscope_load_dataset("a/b")


@pytest.mark.usefixtures("arrow_cache")
def test_a_local_folder_needs_no_package(monkeypatch, tmp_path, requested):
    monkeypatch.setenv(SWITCH, "1")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"question": "Local?"}\n')
    assert modelscope_load_dataset(str(tmp_path / "rows"), split="train")[0] == {"question": "Local?"}
    assert requested == []


def test_built_in_datasets_follow_the_switch(monkeypatch, requested):
    monkeypatch.setenv(SWITCH, "1")
    assert Gsm8kDataset("test").get_reference_answer(0) == "#### 4"
    assert MathDapoDataset().get_reference_answer(0) == "4"
    assert requested == [
        ("AI-ModelScope/gsm8k", {"subset_name": "main", "split": "test"}),
        ("BytedTsinghua-SIA/DAPO-Math-17k", {"subset_name": None, "split": "train"}),
    ]
