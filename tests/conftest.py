from __future__ import annotations

import signal

pytest_plugins = ["rlx.testing.fixtures"]


def pytest_configure():
    """Reset signals that are ignored under `nohup` or in the background: the processes of tests would inherit that."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
