from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.groups.placement import Placement
from rlx.errors import PeerFailed
from rlx.transport.messages import Lease

NAMES = ("a", "b")


class Channel:
    def __init__(self):
        self.gone, self.sent = set(), []

    async def notify(self, peer, message):
        if peer in self.gone:
            raise PeerFailed(f"{peer} is not connected any more")
        self.sent.append((peer, [lease.group_id for lease in message.leases]))


@pytest.mark.parametrize("barrier", [False, True])
async def test_leases_for_a_dead_replica_are_sampled_after_its_removal(barrier):
    channel, load, warnings = Channel(), LeastLoaded(NAMES), []
    services = SimpleNamespace(channel=channel, replicas=NAMES, log=lambda level, text: warnings.append(text))
    placement = Placement(services, load, barrier=barrier, kind="group")
    channel.gone.add("b")
    await placement.hand_out([Lease(index, index, 2, 0, 0) for index in range(4)], seed=1)
    assert channel.sent == [("a", [0, 2])]
    assert warnings == ["leases cannot be sent to b: b is not connected any more"]
    assert placement.out == 4
    load.remove("b")
    await placement.remove_replica("b")
    channel.gone.clear()
    load.add("b")
    await placement.add_replica("b")
    assert channel.sent[1:] == [("b" if barrier else "a", [1, 3])]
    assert all(placement.release("a", index) for index in (0, 2))
    assert all(placement.release(channel.sent[1][0], index) for index in (1, 3))
    assert placement.out == 0
