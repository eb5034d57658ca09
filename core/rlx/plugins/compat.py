"""Whether a plugin wants this version of rlx: read from its metadata, before it is imported."""

from __future__ import annotations

from packaging.requirements import InvalidRequirement, Requirement

import rlx
from rlx.errors import PluginError
from rlx.plugins.catalog import Entry
from rlx.plugins.kinds import SINGULAR


def check_compatible(entry: Entry) -> None:
    """Raises PluginError where the distribution's `Requires-Dist: rlx...` leaves out the running version."""
    for line in entry.requires_rlx:
        requirement = _requirement(entry, line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(rlx.__version__, prereleases=True):
            raise PluginError(
                f"{_owner(entry)} wants rlx{requirement.specifier}, but this is rlx {rlx.__version__}.\n"
                f"Install a version of {entry.dist} made for this rlx, or the rlx that it wants."
            )


def _requirement(entry: Entry, line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise PluginError(
            f"{_owner(entry)} requires {line!r}, which can't be read: {error}\n"
            f"Report it to the authors of {entry.dist}, or try another version."
        ) from error


def _owner(entry: Entry) -> str:
    return f"{SINGULAR[entry.kind]} {entry.name!r} ({entry.dist} {entry.version}, {entry.target})"
