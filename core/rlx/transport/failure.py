"""The message with which a process reports the exception that ends it."""

from __future__ import annotations

import traceback

from rlx.errors import RlxError, described
from rlx.transport.messages import Failed


def failure_message(error: BaseException, owner: str = "") -> Failed:
    """Return the report of `error`. owner: who is responsible if the error doesn't say so itself."""
    return Failed(
        str(error) if isinstance(error, RlxError) else described(error),
        owner=str(getattr(error, "owner", "")) or owner,
        traceback="".join(traceback.format_exception(error)),
    )
