"""Components that enabled hooks plugins add by code, through `rlx_register(registry)`.

They are for families of names that are known only at run time. A registry belongs to one process; every process fills
its own by calling the same hooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rlx.boot import PluginRecord
from rlx.errors import PluginError, did_you_mean
from rlx.plugins.catalog import SINGULAR
from rlx.plugins.records import owner


def model_packer_name(model: str) -> str:
    """Return the name under which a config finds the packer that the model plugin `model` brings."""
    return f"{model}.packer"


class Registry:
    """The argument of `rlx_register`."""

    def __init__(self) -> None:
        self._components: dict[tuple[str, str], tuple[PluginRecord, object]] = {}
        self._provider: PluginRecord | None = None

    def add(self, kind: str, name: str, component: object) -> None:
        """Offer `component` under `name`. `kind` is `datasets`, `rewards`, ...

        Raises PluginError if the kind is unknown or the name is taken.
        """
        provider = self._provider
        assert provider is not None, "components are added inside rlx_register only"
        if kind not in SINGULAR or kind in ("hooks", "commands"):
            raise PluginError(f"{owner(provider)} registers the unknown kind {kind!r}.{did_you_mean(kind, SINGULAR)}")
        if (kind, name) in self._components:
            taken = owner(self._components[kind, name][0])
            raise PluginError(f"{owner(provider)} registers {SINGULAR[kind]} {name!r} again; it is {taken}.")
        record = PluginRecord(kind, name, provider.dist, provider.version, provider.target, provider.sha256)
        self._components[kind, name] = (record, component)
        packer = getattr(component, "packer", None) if kind == "models" else None
        if packer is not None:
            self.add("packers", model_packer_name(name), packer)

    @contextmanager
    def provided_by(self, record: PluginRecord) -> Iterator[None]:
        """Make this hooks plugin the owner of the components that are added in the block."""
        self._provider = record
        try:
            yield
        finally:
            self._provider = None

    def names(self, kind: str) -> list[str]:
        """Return the sorted names of all components of that kind that were added."""
        return sorted(name for known, name in self._components if known == kind)

    def record(self, kind: str, name: str) -> PluginRecord | None:
        """Return the record of a component that was added, or None."""
        found = self._components.get((kind, name))
        return found[0] if found else None

    def component(self, kind: str, name: str) -> object:
        """Return a component. Raises KeyError if it was not added."""
        return self._components[kind, name][1]
