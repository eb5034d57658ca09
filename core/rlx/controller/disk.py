"""What the disk does not take is the run's failure, by the name of what was to be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from rlx.errors import RunError


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Raises RunError where the disk refuses. For writing alone: a timeout of the network is an OSError, too."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise RunError(f"{what} cannot be written: {error}. Is the disk full?") from error
