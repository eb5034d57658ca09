from __future__ import annotations

import signal

pytest_plugins = ["rlx.testing.fixtures"]


def pytest_configure():
    """Reset signals that are ignored under `nohup` or in the background: the processes of tests would inherit that."""
    for number, default in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, default)
