"""Builds the message that reports the exception that ends a process."""

from __future__ import annotations

import traceback

from rlx.errors import RlxError, described
from rlx.transport.messages import Failed


def failure_message(error: BaseException, owner: str = "") -> Failed:
    """Return the message for `error`. `owner`: the responsible component if the error doesn't name one."""
    return Failed(
        str(error) if isinstance(error, RlxError) else described(error),
        owner=str(getattr(error, "owner", "")) or owner,
        traceback="".join(traceback.format_exception(error)),
    )
