"""The machine: its devices, the space on its disk, and whether run directories can be made.

Nothing is created. A config may be checked on another machine than the one that runs it, so missing devices are not
errors of `rlx check`: `RunPlan.lacks` has them, and `rlx run` refuses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from rlx.config.schema import Config
from rlx.errors import UsageError
from rlx.platform import PLATFORMS
from rlx.preflight.checks.memory import ITEM_BYTES, format_bytes

_CHECKPOINT_BYTES = 12
"""For each parameter: weight and the two moments of AdamW, float32 each."""
_KERNEL_FILESYSTEMS = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf"})
"""Folders of the kernel, in which even root makes no folder."""
_NAME_BYTES = 255
"""Longest name in a folder, on all file systems in use."""


def missing_devices(config: Config, *, rollouts: bool) -> tuple[str, ...]:
    """Return what the run needs of devices and this machine does not have."""
    platform = PLATFORMS[config.run.device]
    # A launcher of others may start the processes on other machines.
    if platform.visible is None or config.run.launcher != "local":
        return ()
    import torch

    where, devices = f'[run] device = "{platform.device}"', torch.get_device_module(platform.device)
    if not devices.is_available():
        return (f"{where}: PyTorch {torch.__version__} finds no {platform.device.upper()} device on this machine.",)
    lacks = []
    ranks = config.policy.parallel.world_size
    workers = config.rollout.replicas * config.rollout.tensor_parallel if rollouts else 0
    if (found := devices.device_count()) < ranks + workers:
        lacks.append(
            f"{where}: {ranks} policy ranks and {workers} engine workers need a device each, {ranks + workers} in all; "
            f"this machine has {found}."
        )
    if not torch.distributed.is_backend_available(platform.collectives):
        lacks.append(f"{where}: PyTorch {torch.__version__} was built without {platform.collectives}.")
    return tuple(lacks)


def check_writable(folder: Path, where: str) -> None:
    """Raise UsageError if `folder` can't be made, or if nothing can be written to it.

    where: the key or option that names it.
    """
    folder = folder.absolute()
    problem = _not_makeable(folder)
    if problem is None:
        parent = next(path for path in (folder, *folder.parents) if path.exists())
        if not parent.is_dir():
            problem = f"{parent} isn't a folder"
        elif not os.access(parent, os.W_OK | os.X_OK) or os.statvfs(parent).f_flag & os.ST_RDONLY:
            problem = f"{parent} can't be written to"
        elif _filesystem(parent) in _KERNEL_FILESYSTEMS:
            problem = f"{parent} belongs to the kernel, and holds no files of others"
    if problem is not None:
        raise UsageError(f"{where}: nothing can be written in {str(folder)!r}: {problem}.")


def _not_makeable(folder: Path) -> str | None:
    """Return why no folder can have that path, by its text and its links."""
    if "\0" in str(folder):
        return "it holds a NUL character"
    if long := next((part for part in folder.parts if len(os.fsencode(part)) > _NAME_BYTES), None):
        return f"{long[:20]!r}... has {len(os.fsencode(long))} bytes, and a name has at most {_NAME_BYTES}"
    for path in (folder, *folder.parents):
        try:
            path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                return f"{path} is a link to {str(path.readlink())!r}, which does not exist"
        except NotADirectoryError:  # a parent is a file, which is found once it is reached
            continue
        except OSError as error:
            return f"{path}: {os.strerror(error.errno or errno.EIO)}"
        else:
            break
    return None


def _filesystem(path: Path) -> str:
    """Return the type of the file system that a path is on; "" where the kernel doesn't list them."""
    import psutil

    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    real = path.resolve()
    return next((mounts[place] for place in (real, *real.parents) if place in mounts), "")


def disk_notes(config: Config, parameters: int | None, folder: Path) -> Iterator[str]:
    """Yield a note if the disk of `folder` has too little room for checkpoints and export, by a low estimate."""
    folder = folder.absolute()
    place = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
    if parameters is None or place is None:
        return
    disk = os.statvfs(place)
    need, free = disk_need(config, parameters), disk.f_bavail * disk.f_frsize
    if need > free:
        yield (
            f"Checkpoints and export need about {format_bytes(need)}, and {format_bytes(free)} are free in {place}. "
            "Choose another disk ([run] dir), or fewer checkpoints ([checkpoint] keep)."
        )


def disk_need(config: Config, parameters: int) -> int:
    """Return the bytes of the checkpoints and the export that exist at the same time."""
    checkpoint, steps = config.checkpoint, config.run.steps
    # One that is due by time may be saved after any step.
    every = 1 if checkpoint.every_seconds is not None else checkpoint.every
    saved = 1 if not every else max(1, -(-steps // every))
    # A new one is written before the oldest is removed.
    kept = saved if checkpoint.keep == 0 else min(saved, checkpoint.keep + 1)
    kept += checkpoint.best is not None
    exported = ITEM_BYTES["bfloat16"] * parameters if checkpoint.export else 0
    return kept * _CHECKPOINT_BYTES * parameters + exported
