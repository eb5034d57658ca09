"""One reward process: `python -m rlx.rewards.worker`, started by the pool.

Rules:

* It loads the run's rewards, then answers one call at a time, in its main thread (math-verify needs signals).
* Frames go over the stdin and stdout that it was started with. Rewards print to stderr, which is a log.
* It has no timeouts: the pool kills it. When the pool is gone, the worker exits, even in the middle of a call.
* torch and transformers are imported only if a reward does so, or uses the tokenizer.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
import traceback
from typing import BinaryIO

from rlx.boot import Boot
from rlx.errors import RewardError, RlxError, UsageError, attribute, described, foreign_frames
from rlx.launchers.linux import be_killed_first, dump_stacks_on_signal
from rlx.packers.open import open_packer
from rlx.packers.protocol import Packer
from rlx.packers.tokenizer import Tokenizer
from rlx.plugins.session import Plugins
from rlx.rewards.bound import BoundReward
from rlx.rewards.call import RewardCaller, loaded_message
from rlx.rewards.lazy import Lazy
from rlx.rewards.messages import (
    LENGTH,
    Call,
    CallFailed,
    FromWorker,
    LoadFailed,
    Ready,
    Scored,
    Start,
    frame,
    to_worker,
)
from rlx.rewards.result import quote_first

UNREACHABLE = frozenset(
    {"ConnectError", "ConnectTimeout", "ClientConnectorError", "NewConnectionError", "APIConnectionError"}
)
"""Names of the exceptions by which HTTP clients (httpx, aiohttp, urllib3, openai) report that nothing listens."""


def main() -> None:
    """Load the rewards, then answer calls until the pool closes the pipe."""
    inbox, outbox = _claim_pipes()
    dump_stacks_on_signal()
    be_killed_first()
    threading.Thread(target=_exit_with_parent, args=(inbox.fileno(),), daemon=True).start()
    start = _read(inbox)
    assert isinstance(start, Start)
    try:
        worker = RewardWorker(start)
    except RlxError as error:
        _write(outbox, LoadFailed(str(error), isinstance(error, UsageError)))
        return
    except BaseException as error:  # noqa: BLE001 - the boundary: a plugin's code ran; the pool reports it
        trace = "".join(traceback.format_exception(error)).rstrip()
        _write(outbox, LoadFailed(f"The rewards could not be loaded.\n{trace}", usage=True))
        return
    _write(outbox, Ready(worker.loaded, worker.hook_failures))
    while (call := _read(inbox)) is not None:
        assert isinstance(call, Call)
        _write(outbox, worker.answer(call))


class RewardWorker:
    """Loads the run's rewards, and answers calls of them."""

    def __init__(self, start: Start) -> None:
        from rlx.script.plugins import open_plugins

        plugins = open_plugins(start.boot)
        lazy = _process_offers(start.boot, plugins)
        self._call = RewardCaller()
        self._rewards = []
        for spec in start.rewards:
            target = plugins.load("rewards", spec.name)
            with attribute(plugins.owner("rewards", spec.name), "its constructor"):
                self._rewards.append(BoundReward(target, spec.args))
        self.loaded = [
            loaded_message(reward, plugins.owner("rewards", spec.name), group=spec.group)
            for spec, reward in zip(start.rewards, self._rewards, strict=True)
        ]
        self.hook_failures = plugins.hook_failures.take()
        # The object itself for each offer that a reward names, loaded now so that loading doesn't count against the
        # timeout of the first call; a proxy that loads on first use for each that only its `**kwargs` accepts.
        self._offers = [
            {name: offer.get() if name in reward.names | {"config"} else offer for name, offer in lazy.items()}
            for reward in self._rewards
        ]

    def answer(self, call: Call) -> Scored | CallFailed:
        """Score the call's completions, or report the reward's error with its owner."""
        loaded, began = self.loaded[call.reward], time.perf_counter()
        try:
            scores = self._call(self._rewards[call.reward], loaded, call, self._offers[call.reward])
            return Scored(scores, time.perf_counter() - began)
        except RewardError as error:
            return CallFailed(str(error), time.perf_counter() - began, unreachable=_is_unreachable(error))
        except BaseException as error:  # noqa: BLE001 - the boundary: a reward may raise anything, SystemExit too
            # The traceback through the reward's own code, or all of it if there is none.
            frames = foreign_frames(error) or traceback.extract_tb(error.__traceback__)
            trace = "".join(traceback.format_list(frames)).rstrip()
            message = f"{loaded.owner} raised {described(error)}\n{quote_first(call.texts)}"
            return CallFailed(message, time.perf_counter() - began, trace, _is_unreachable(error))


def _is_unreachable(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that nothing listens at an address."""
    met: list[BaseException] = []
    while error is not None and error not in met:
        # By name, since each HTTP client has classes of its own, and which ones are installed is not known.
        if isinstance(error, ConnectionError | socket.gaierror) or type(error).__name__ in UNREACHABLE:
            return True
        met.append(error)
        error = error.__cause__ or error.__context__
    return False


def _process_offers(boot: Boot, plugins: Plugins) -> dict[str, Lazy[object]]:
    """Return the offers of PROCESS_OFFERS by name; each is made on first use."""
    config = boot.load_config()

    def make_tokenizer() -> Tokenizer:
        from rlx.packers.tokenizer import load_tokenizer

        return load_tokenizer(config.model)

    tokenizer = Lazy(make_tokenizer)

    def make_packer() -> Packer:
        return open_packer(plugins, config.packer, config, tokenizer.get())

    return {"config": Lazy(lambda: config), "tokenizer": tokenizer, "data_packer": Lazy(make_packer)}


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for the pool: rewards read nothing from stdin, and print to stderr."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return inbox, outbox


def _exit_with_parent(fd: int) -> None:
    """Exit when the other end of the pipe is closed. It polls for no event: only a hang-up wakes it."""
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


if __name__ == "__main__":
    main()
