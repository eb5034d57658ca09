"""The generated part of the docs, and the check of all of them.

`python docs/build.py` writes docs/reference/config.md from the config schema's own docstrings. With `--check` it fails
where that file is not what the schema says, or where a relative link of a Markdown file leads nowhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rlx.config.schema import Config

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference" / "config.md"
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


def dead_links() -> list[str]:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return [
        f"{page.relative_to(ROOT)}: {target} does not exist"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]


def main() -> int:
    text = "\n".join([HEAD, *tables(Config)]).rstrip() + "\n"
    if "--check" not in sys.argv:
        REFERENCE.parent.mkdir(parents=True, exist_ok=True)
        REFERENCE.write_text(text, encoding="utf-8")
        return 0
    problems = dead_links()
    if not REFERENCE.exists() or REFERENCE.read_text(encoding="utf-8") != text:
        problems.append("docs/reference/config.md is not what the schema says: run `python docs/build.py`")
    print("\n".join(problems) or "docs: links and config reference are right", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
