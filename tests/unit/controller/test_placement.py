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
        self.gone, self.told = set(), []

    async def notify(self, peer, message):
        if peer in self.gone:
            raise PeerFailed(f"{peer} is not connected any more")
        self.told.append((peer, [lease.group_id for lease in message.leases]))


@pytest.mark.parametrize("barrier", [False, True])
async def test_leases_of_one_that_is_gone_before_anybody_says_so_are_sampled_all_the_same(barrier):
    channel, load, warnings = Channel(), LeastLoaded(NAMES), []
    context = SimpleNamespace(channel=channel, replicas=NAMES, log=lambda level, text: warnings.append(text))
    placement = Placement(context, load, barrier=barrier, kind="group")
    channel.gone.add("b")
    await placement.hand_out([Lease(index, index, 2, 0, 0) for index in range(4)], seed=1)
    assert channel.told == [("a", [0, 2])]
    assert warnings == ["b cannot be told of its leases: b is not connected any more"]
    assert placement.out == 4
    load.remove("b")
    await placement.lose("b")
    channel.gone.clear()
    load.add("b")
    await placement.regain("b")
    assert channel.told[1:] == [("b" if barrier else "a", [1, 3])]
    assert all(placement.settle("a", index) for index in (0, 2))
    assert all(placement.settle(channel.told[1][0], index) for index in (1, 3))
    assert placement.out == 0
