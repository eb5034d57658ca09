from __future__ import annotations

import json

import pytest

from rlx.config.schema import Config
from rlx.preflight.engine.generation import generation_notes


def _notes(tmp_path, text):
    (tmp_path / "generation_config.json").write_text(text)
    config = Config.model_validate({"model": {"path": str(tmp_path)}, "dataset": {"name": "d"}})
    return list(generation_notes(config))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"eos_token_id": [1, 2], "pad_token_id": 0, "transformers_version": "5.19.0", "do_sample": True},
        {"temperature": 1.0, "top_p": 1, "top_k": 0, "repetition_penalty": 1.0, "max_length": 20, "min_p": None},
    ],
)
def test_a_file_that_asks_for_nothing_has_no_note(tmp_path, settings):
    assert _notes(tmp_path, json.dumps(settings)) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}, "temperature = 0.6, top_k = 20, top_p ="),
        ({"repetition_penalty": 1.05}, "repetition_penalty = 1.05"),
        ({"min_p": 0.1}, "min_p = 0.1"),
        ({"suppress_tokens": [1, 2]}, "suppress_tokens = [1, 2]"),
        ({"bad_words_ids": [[3]]}, "bad_words_ids = [[3]]"),
        ({"max_new_tokens": 5}, "max_new_tokens = 5"),
        ({"stop_strings": ["</answer>"]}, 'stop_strings = ["</answer>"]'),
        ({"num_beams": 4}, "num_beams = 4"),
    ],
)
def test_settings_that_are_not_used_are_named(tmp_path, settings, named):
    (note,) = _notes(tmp_path, json.dumps({"eos_token_id": 1, **settings}))
    assert f"sets {named}" in note
    assert "which rlx does not use" in note


def test_a_damaged_file_has_a_note(tmp_path):
    (note,) = _notes(tmp_path, "{")
    assert "can't be read" in note


def test_a_model_without_the_file_has_no_note(tmp_path):
    config = Config.model_validate({"model": {"path": str(tmp_path)}, "dataset": {"name": "d"}})
    assert list(generation_notes(config)) == []
