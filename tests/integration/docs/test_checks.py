"""docs/checks.py finds each problem that it looks for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("checks", DOCS / "checks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(tmp_path):
    (tmp_path / "other.md").write_text("# Other page\n\n## `rlx check` and more\n")

    def make(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[a](other.md), [b](other.md#rlx-check-and-more), [c](https://example.org/x)", []),
        ("[a](none.md)", ["none.md does not exist"]),
        ("[a](other.md#none)", ["other.md#none: no such heading"]),
        ("# Here\n\n[a](#here), [b](#there)", ["#there: no such heading"]),
        ("```\n[a](none.md)\n```", []),
    ],
)
def test_dead_links_are_found(checks, page, text, problems):
    assert list(checks.dead_links(page(text))) == problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("`docs/checks.py`, `tests/integration`, `docs/checks.py::markdown_pages`, `checkpoints/step_1`", []),
        ("`core/rlx/gone.py`", ["core/rlx/gone.py does not exist"]),
    ],
)
def test_missing_paths_are_found(checks, page, text, problems):
    assert list(checks.missing_paths(page(text))) == problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("`rlx.GRPO`, `rlx.errors.attribute`, entry-point group `rlx.hooks`, `rlx.algorithms.grpo:GRPO`", []),
        ("`rlx.Gone`", ["rlx.Gone does not exist"]),
        ("`rlx.errors.gone`", ["rlx.errors.gone does not exist"]),
        ("`rlx.gone.x`", ["rlx.gone.x does not exist"]),
    ],
)
def test_unknown_names_are_found(checks, page, text, problems):
    assert list(checks.unknown_names(page(text))) == problems


def test_the_folder_map_has_exactly_the_packages_of_the_core(checks):
    text = checks.ARCHITECTURE.read_text()
    assert list(checks.unmapped_packages(text)) == []
    assert list(checks.unmapped_packages(text.replace("| `sync/`", "| `synch/`"))) == [
        "the folder map has no row for sync/",
        "the folder map has a row for synch/, which does not exist",
    ]


def test_the_map_names_the_modules_of_the_core(checks):
    text = checks.ARCHITECTURE.read_text()
    assert list(checks.unmapped_modules(text)) == []
    assert list(checks.unmapped_modules(text.replace("`boot.py`", ""))) == ["it does not name `boot.py` of core/rlx"]


def test_no_page_has_a_problem(checks):
    assert checks.problems(checks.markdown_pages()) == []
