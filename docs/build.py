"""The generated part of the docs, and the check of all of them.

`python docs/build.py` writes docs/reference/config.md from the config schema's own docstrings, docs/plugins/hooks.md from
those of the hookspecs, and docs/plugins/contracts.md from the suites of rlx.testing. With `--check` it fails where a
file is not what its source says, or where a relative link of a Markdown file leads nowhere.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import rlx.testing
from rlx import Config
from rlx.plugins import hookspecs

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference" / "config.md"
HOOKS = ROOT / "docs" / "plugins" / "hooks.md"
HOOKS_HEAD = """# Hook reference

Generated from the hookspecs by `python docs/build.py`. How hooks are written and enabled: [plugins](../plugins.md#hooks).

An implementation may leave out arguments that it does not need. All enabled plugins are called, in the order of `[plugins] enable`; where a hook says "first answer", calling stops at the first result that is not None. A hook holds up the process that it runs in; how long is told in the metrics (`time/hook/<plugin>/<hook>`), and at the end of a run.
"""
CONTRACTS = ROOT / "docs" / "plugins" / "contracts.md"
CONTRACTS_HEAD = """# Contract reference

Generated from the suites of `rlx.testing` by `python docs/build.py`: the rules of each, by the names that a `ContractError` gives them. How suites are used: [testing a plugin](testing.md).
"""
HEAD = """# Config reference

Generated from the schema by `python docs/build.py`; `rlx schema` prints the same as JSON Schema, for editors.
An unknown key is an error. Everything but `model.path` and `dataset.name` has a default.
"""
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The config section behind `X`, `X | None` or `list[X]`; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def type_text(field: FieldInfo) -> str:
    text = str(field.annotation) if get_args(field.annotation) else getattr(field.annotation, "__name__", "")
    return text.replace("typing.", "").replace("NoneType", "None").replace("|", "\\|")


def default_text(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return f"`{field.default!r}`" if not isinstance(field.default, BaseModel) else ""


def tables(model: type[BaseModel], path: str = "") -> list[str]:
    """One Markdown table for a section's plain keys, then those of the sections below it."""
    rows, below = [], []
    for name, field in model.model_fields.items():
        key = f"{path}.{field.alias or name}".lstrip(".")
        child = section_of(field.annotation)
        if child is None:
            text = " ".join((field.description or "").split()).replace("|", "\\|")
            rows.append(f"| `{field.alias or name}` | {type_text(field)} | {default_text(field)} | {text} |")
        else:
            below += tables(child, key)
    title = [f"## `[{path}]`", "", " ".join((model.__doc__ or "").split()), ""] if path else []
    head = ["| key | type | default | meaning |", "|---|---|---|---|"] if rows else []
    return [*title, *head, *rows, "", *below]


def hooks_page() -> str:
    names = [name for name in vars(hookspecs) if name.startswith("rlx_")]
    return "\n".join([HOOKS_HEAD, *(hook_section(name) for name in names)]).rstrip() + "\n"


def hook_section(name: str) -> str:
    function = getattr(hookspecs, name)
    signature = ", ".join(inspect.signature(function).parameters)
    return f"## `{name}({signature})`\n\n{markdown(inspect.getdoc(function) or '')}\n"


def contracts_page() -> str:
    suites = (getattr(rlx.testing, name) for name in sorted(rlx.testing.__all__) if name.startswith("check_"))
    return "\n".join([CONTRACTS_HEAD, *map(contract_section, suites)]).rstrip() + "\n"


def contract_section(suite: Any) -> str:
    rules = inspect.getmodule(suite).RULES  # type: ignore[union-attr]
    rows = [f"| `{name}` | {rule} |" for name, rule in rules.items()]
    return "\n".join([f"## `{suite.__name__}`", "", "| rule | |", "|---|---|", *rows, ""])


def markdown(docstring: str) -> str:
    """A docstring with each paragraph on one line, and the labels of its facts in bold."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in docstring.split("\n\n")]
    return re.sub(r"\b(Process|Frequency): ", r"**\1:** ", "\n\n".join(paragraphs))


def dead_links() -> list[str]:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return [
        f"{page.relative_to(ROOT)}: {target} does not exist"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]


def pages() -> dict[Path, str]:
    """Every generated page, as it must be."""
    reference = "\n".join([HEAD, *tables(Config)]).rstrip() + "\n"
    return {REFERENCE: reference, HOOKS: hooks_page(), CONTRACTS: contracts_page()}


def main() -> int:
    if "--check" not in sys.argv:
        for path, text in pages().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    problems = dead_links()
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            problems.append(f"{path.relative_to(ROOT)} is not what its source says: run `python docs/build.py`")
    print("\n".join(problems) or "docs: links and generated pages are right", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
