"""One reward process: `python -m rlx.rewards.worker`, started by the pool.

The rules of this part:

* It loads the run's rewards, then answers one call at a time, in its main thread (math-verify needs signals).
* Frames go over the stdin and stdout that it was started with. What rewards print goes to stderr, which is a log.
* It has no timeouts: the pool kills it. When the pool is gone, so is the worker, in the middle of a call too.
* torch and transformers are imported only if a reward does so, or uses the tokenizer.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from rlx.boot import Boot
from rlx.errors import RewardError, RlxError, UsageError, foreign_frames
from rlx.packers.open import open_packer
from rlx.rewards.base import BoundReward, about
from rlx.rewards.call import Asker, loaded_of
from rlx.rewards.lazy import Lazy
from rlx.rewards.messages import (
    LENGTH,
    Broken,
    Call,
    FromWorker,
    Raised,
    Ready,
    Scored,
    Start,
    frame,
    to_worker,
)


def main() -> None:
    inbox, outbox = _claim_pipes()
    threading.Thread(target=_exit_with_parent, args=(inbox.fileno(),), daemon=True).start()
    start = _read(inbox)
    assert isinstance(start, Start)
    try:
        scorer = Scorer(start)
    except BaseException as error:  # noqa: BLE001 - the boundary: a plugin's code ran; the pool reports it
        _write(outbox, _broken(error))
        return
    _write(outbox, Ready(scorer.loaded))
    while (call := _read(inbox)) is not None:
        assert isinstance(call, Call)
        _write(outbox, scorer.answer(call))


class Scorer:
    """The run's rewards, loaded."""

    def __init__(self, start: Start) -> None:
        from rlx.script.plugins import open_plugins

        plugins = open_plugins(start.boot)
        self._own = _own(start.boot, plugins)
        self._ask = Asker()
        self._rewards = [BoundReward(plugins.load("rewards", spec.name), spec.args) for spec in start.rewards]
        self.loaded = [
            loaded_of(reward, plugins.owner("rewards", spec.name), group=spec.group)
            for spec, reward in zip(start.rewards, self._rewards, strict=True)
        ]
        # Loaded now, so that it is not part of the first call's time.
        self._offers = [_offers(self._own, reward) for reward in self._rewards]

    def answer(self, call: Call) -> Scored | Raised:
        """Score what the call is about; whatever the reward does is told with its owner."""
        loaded, began = self.loaded[call.reward], time.perf_counter()
        try:
            scores = self._ask(self._rewards[call.reward], loaded, call, self._offers[call.reward])
            return Scored(scores, time.perf_counter() - began)
        except RewardError as error:
            return Raised(str(error), time.perf_counter() - began)
        except BaseException as error:  # noqa: BLE001 - the boundary: a reward may raise anything, SystemExit too
            return Raised(_raised(loaded.owner, error, call.texts), time.perf_counter() - began)


def _own(boot: Boot, plugins: Any) -> dict[str, Lazy]:
    config = boot.load_config()

    def tokenizer() -> Any:
        from rlx.packers.tokenizer import load_tokenizer

        return load_tokenizer(config.model)

    lazy_tokenizer = Lazy(tokenizer)

    def packer() -> Any:
        return open_packer(plugins, config.packer, config, lazy_tokenizer.get())

    return {"config": Lazy(lambda: config), "tokenizer": lazy_tokenizer, "data_packer": Lazy(packer)}


def _offers(own: Mapping[str, Lazy], reward: BoundReward) -> dict[str, Any]:
    """The thing itself for what a reward names; for what its `**kwargs` only soaks up, a stand-in that loads on use."""
    real = reward.names | {"config"}
    return {name: lazy.get() if name in real else lazy for name, lazy in own.items()}


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for the pool: rewards that read get nothing, and what they print goes to stderr."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return inbox, outbox


def _exit_with_parent(fd: int) -> None:
    """Wait until the other end of the pipe is closed. Asks for no event, so that only a hang-up wakes it."""
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll()
    os._exit(0)


def _read(inbox: BinaryIO) -> Start | Call | None:
    head = inbox.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return to_worker(inbox.read(LENGTH.unpack(head)[0]))


def _write(outbox: BinaryIO, message: FromWorker) -> None:
    outbox.write(frame(message))
    outbox.flush()


def _broken(error: BaseException) -> Broken:
    if isinstance(error, RlxError):
        return Broken(str(error), isinstance(error, UsageError))
    return Broken(f"The rewards could not be loaded.\n{_traceback(error)}", usage=True)


def _raised(owner: str, error: BaseException, texts: Sequence[str]) -> str:
    return f"{owner} raised {type(error).__name__}: {error}\n{about(texts)}\n{_where(error)}"


def _where(error: BaseException) -> str:
    """The lines of the reward's own code that it went through, or all lines if there are none."""
    frames = foreign_frames(error) or traceback.extract_tb(error.__traceback__)
    return "".join(traceback.format_list(frames)).rstrip()


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


if __name__ == "__main__":
    main()
