"""Where the source of a plugin lies, found without running any of its code.

`importlib.util.find_spec("a.b")` imports `a`. So only the top package goes through the import system, and the rest is a
walk over its folders.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


def find_module(module: str) -> Path | None:
    """The file that `import module` would run; None where there is none."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return None
    if spec is None:
        return None
    if inner:
        return _walk(map(Path, spec.submodule_search_locations or ()), inner)
    return Path(spec.origin) if spec.has_location and spec.origin else None


def _walk(folders: Iterable[Path], names: list[str]) -> Path | None:
    *parents, last = names
    for folder in folders:
        place = folder.joinpath(*parents)
        candidates = [place / last / "__init__.py", *(place / f"{last}{suffix}" for suffix in _SUFFIXES)]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
