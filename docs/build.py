"""The generated parts of the docs, and the check of all pages.

`python docs/build.py` writes

* docs/reference/config.md from the docstrings of the config schema,
* docs/reference/api.md from the public names of `rlx`,
* docs/reference/contracts.md from the contract suites of `rlx.testing`,
* the hook reference at the end of docs/hooks.md from the hookspecs,
* the layers in docs/architecture.md from the import-linter contract in pyproject.toml.

With `--check` it writes nothing, and fails if one of these is out of date or if a page has one of the problems that
docs/checks.py looks for.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import get_args

from checks import ARCHITECTURE, ROOT, markdown_pages, problems
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import rlx
import rlx.testing
from rlx import Config
from rlx.plugins import hookspecs

DOCS = ROOT / "docs"
CONFIG = DOCS / "reference" / "config.md"
CONFIG_HEAD = """# Config reference

Generated from the schema by `python docs/build.py`; `rlx schema` prints the same as JSON Schema, for editors.
An unknown key is an error. Everything but `model.path` and `dataset.name` has a default.
"""
CONTRACTS = DOCS / "reference" / "contracts.md"
CONTRACTS_HEAD = """# Contract reference

Generated from the suites of `rlx.testing` by `python docs/build.py`. Each rule has the name that a `ContractError` gives it. How to use the suites: [testing a plugin](../testing.md).
"""
API = DOCS / "reference" / "api.md"
API_HEAD = """# Python API

Generated from `rlx.__all__` by `python docs/build.py`. Plugins, launch scripts and tests import these names from `rlx`; every other module is rlx's own and may change. `import rlx` is cheap: a name is loaded when it is first used.
"""
LAYERS_MARK = "<!-- Generated from pyproject.toml by `python docs/build.py`. -->"
LAYERS_END = "<!-- End of the generated part. -->"
HOOKS = DOCS / "hooks.md"
HOOKS_MARK = "<!-- Generated from the hookspecs by `python docs/build.py`: do not edit below this line. -->\n"

PAGES = {
    "rlx.algorithms": "algorithms.md",
    "rlx.episodes": "algorithms.md",
    "rlx.models": "models.md",
    "rlx.packers": "packers.md",
    "rlx.rewards": "rewards.md",
    "rlx.datasets": "datasets.md",
    "rlx.loggers": "loggers.md",
    "rlx.launchers": "launchers.md",
    "rlx.plugins": "hooks.md",
    "rlx.script": "launch-scripts.md",
    "rlx.errors": "plugins.md",
    "rlx.config": "plugins.md",
    "rlx": "plugins.md",
}
"""Module prefix -> the page that documents its public names. The longest prefix counts."""


def section_of(annotation: object) -> type[BaseModel] | None:
    """The config section behind `X`, `X | None` or `list[X]`; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def type_text(field: FieldInfo) -> str:
    text = str(field.annotation) if get_args(field.annotation) else getattr(field.annotation, "__name__", "")
    text = re.sub(r"\brlx(\.\w+)+\.", "", text)
    text = text.replace("typing.", "").replace("NoneType", "None").replace("|", "\\|")
    return ", ".join([text, *filter(None, map(bound_text, field.metadata))])


def bound_text(constraint: object) -> str:
    """A bound of a number as the reference shows it; "" for other constraints."""
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if (limit := getattr(constraint, name, None)) is not None:
            return f"{sign} {limit:,}" if isinstance(limit, int) else f"{sign} {limit:g}"
    return ""


def takes_text(annotation: object) -> bool:
    """Whether a list of sections takes names in place of them."""
    return any(inner is str or takes_text(inner) for inner in get_args(annotation))


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
        if child is None or takes_text(field.annotation):
            text = " ".join((field.description or "").split()).replace("|", "\\|")
            rows.append(f"| `{field.alias or name}` | {type_text(field)} | {default_text(field)} | {text} |")
        if child is not None:
            below += tables(child, key)
    title = [f"## `[{path}]`", "", " ".join((model.__doc__ or "").split()), ""] if path else []
    head = ["| key | type | default | meaning |", "|---|---|---|---|"] if rows else []
    return [*title, *head, *rows, "", *below]


def hooks_page() -> str:
    """docs/hooks.md: what was written by hand up to the mark, then every hookspec."""
    written, mark, _ = HOOKS.read_text(encoding="utf-8").partition(HOOKS_MARK)
    if not mark:
        raise SystemExit(f"docs/hooks.md lacks the line {HOOKS_MARK.strip()}")
    names = [name for name in vars(hookspecs) if name.startswith("rlx_")]
    return "\n".join([written + mark, *(hook_section(name) for name in names)]).rstrip() + "\n"


def hook_section(name: str) -> str:
    function = getattr(hookspecs, name)
    signature = ", ".join(inspect.signature(function).parameters)
    return f"### `{name}({signature})`\n\n{markdown(inspect.getdoc(function) or '')}\n"


def architecture_page() -> str:
    """docs/architecture.md with the layers of the core between its two marks."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["rlx"])
    before, mark, rest = ARCHITECTURE.read_text(encoding="utf-8").partition(LAYERS_MARK)
    _, end, after = rest.partition(LAYERS_END)
    if not mark or not end:
        raise SystemExit(f"docs/architecture.md lacks {LAYERS_MARK} or {LAYERS_END}")
    return "\n".join([before + mark, "", "```text", *layers, "```", "", end + after])


def contracts_page() -> str:
    suites = (getattr(rlx.testing, name) for name in sorted(rlx.testing.__all__) if name.startswith("check_"))
    return "\n".join([CONTRACTS_HEAD, *map(contract_section, suites)]).rstrip() + "\n"


def contract_section(suite: FunctionType) -> str:
    module = inspect.getmodule(suite)
    assert module is not None
    rules: dict[str, str] = module.RULES
    rows = [f"| `{name}` | {rule} |" for name, rule in rules.items()]
    return "\n".join([f"## `{getattr(suite, '__name__', '')}`", "", "| rule | |", "|---|---|", *rows, ""])


def markdown(docstring: str) -> str:
    """A docstring with each paragraph on one line, and the labels of its facts in bold."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in docstring.split("\n\n")]
    return re.sub(r"\b(Process|Frequency): ", r"**\1:** ", "\n\n".join(paragraphs))


def api_page() -> str:
    """docs/reference/api.md: the public names of rlx, by the page that documents them."""
    by_page: dict[str, list[str]] = {}
    for name in sorted(set(rlx.__all__) - {"__version__"}, key=str.lower):
        by_page.setdefault(page_of(name), []).append(name)
    parts = [API_HEAD]
    for page, names in sorted(by_page.items()):
        title = (DOCS / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        parts += [f"## {title}\n\nDocumented in [{page}](../{page}).\n", *map(api_section, names)]
    return "\n".join(parts).rstrip() + "\n"


def home_of(name: str) -> str:
    """The module that defines a public name."""
    where: dict[str, str] = rlx._WHERE  # noqa: SLF001 - the public table is the only record of it
    return where.get(name, "rlx.lazy")  # what is missing there is imported at once: rlx.lazy_exports


def page_of(name: str) -> str:
    home = home_of(name)
    return PAGES[max((prefix for prefix in PAGES if f"{home}.".startswith(f"{prefix}.")), key=len)]


def api_section(name: str) -> str:
    thing = getattr(rlx, name)
    doc = inspect.getdoc(thing) or ""
    if isinstance(thing, type):
        lines = [*class_lines(thing)]
    elif callable(thing):
        lines = [f"{name}{signature(thing)}"]
        doc = doc if inspect.isfunction(thing) else ""
    else:
        lines, doc = [name], ""
    first = " ".join(doc.partition("\n\n")[0].split())
    text = "\n".join(lines)
    return f"### `{name}`\n\n```text\n{text}\n```\n\n{first}\n" if first else f"### `{name}`\n\n```text\n{text}\n```\n"


def class_lines(cls: type) -> Iterator[str]:
    """A class with its public methods and properties, one a line."""
    if issubclass(cls, BaseModel):
        yield f"class {cls.__name__}"
        return
    protocol = getattr(cls, "_is_protocol", False)
    bare = protocol or (issubclass(cls, BaseException) and "__init__" not in vars(cls))
    yield f"class {cls.__name__}{'  (protocol)' if protocol else '' if bare else signature(cls)}"
    for name, member in vars(cls).items():
        function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if isinstance(member, property):
            yield f"    {name}"
        elif inspect.isfunction(function) and (not name.startswith("_") or (protocol and name == "__call__")):
            yield f"    {name}{signature(function)}"


def signature(thing: object) -> str:
    """`(groups: Sequence[Sequence[Episode]]) -> list[list[float]]`: annotations without quotes and module names."""
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    parameters = [each for each in found.parameters.values() if each.name not in ("self", "cls")]
    text = str(found.replace(parameters=parameters)).removesuffix(" -> None").replace("<factory>", "...")
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", text).replace("rlx.episodes.", "")


def undocumented() -> list[str]:
    """Public names of rlx that the page of their kind does not mention."""
    return [
        f"docs/{page_of(name)} does not document rlx.{name}"
        for name in rlx.__all__
        if name != "__version__" and not re.search(rf"\b{name}\b", (DOCS / page_of(name)).read_text(encoding="utf-8"))
    ]


def generated() -> dict[Path, str]:
    """Every generated page, as it must be."""
    config = "\n".join([CONFIG_HEAD, *tables(Config)]).rstrip() + "\n"
    return {
        CONFIG: config,
        HOOKS: hooks_page(),
        CONTRACTS: contracts_page(),
        API: api_page(),
        ARCHITECTURE: architecture_page(),
    }


def main() -> int:
    pages = generated()
    if "--check" not in sys.argv:
        for path, text in pages.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    found = [*problems(markdown_pages()), *undocumented()]
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"{path.relative_to(ROOT)} is out of date: run `python docs/build.py`")
    print("\n".join(found) or "docs: links, paths, names and generated pages are right", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
