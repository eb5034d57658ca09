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


async def test_a_group_is_leased_again_once_it_is_missing_in_several_reports_over_some_time():
    channel, load, warnings, now = Channel(), LeastLoaded(NAMES), [], [0.0]
    services = SimpleNamespace(channel=channel, replicas=NAMES, log=lambda level, text: warnings.append(text))
    placement = Placement(services, load, barrier=False, kind="group", clock=lambda: now[0])
    await placement.hand_out([Lease(index, index, 2, 0, 0) for index in range(4)], seed=1)
    assert channel.sent == [("a", [0, 2]), ("b", [1, 3])]

    async def report(second, *held):
        now[0] = second
        await placement.report("a", held)
        return channel.sent[2:]

    assert not await report(0.0, 0, 2)
    for second in (0.1, 0.2, 0.3, 2.0):  # many reports in a short time may all have crossed the lease
        assert not await report(second, 0)
    assert not await report(2.05, 0, 2), "it is back"
    for second in (3.0, 6.0):  # few reports in a long time: the replica was busy
        assert not await report(second, 0)
    assert await report(6.1, 0) == [("a", [2])]
    assert warnings == ["a does not hold group 2: the lease or the result was lost on its way; leased again"]
    assert len(await report(9.0, 0, 2)) == 1
    assert placement.release("a", 2)
    assert not placement.release("a", 2), "its second copy is ignored"
    assert [load.out(name) for name in NAMES] == [1, 2]


async def test_a_batch_behind_a_barrier_is_sampled_again_once_nothing_of_it_is_held():
    channel, warnings, now = Channel(), [], [0.0]
    services = SimpleNamespace(channel=channel, replicas=NAMES, log=lambda level, text: warnings.append(text))
    placement = Placement(services, LeastLoaded(NAMES), barrier=True, kind="group", clock=lambda: now[0])
    await placement.hand_out([Lease(index, index, 2, 0, 0) for index in range(6)], seed=1)
    assert placement.release("a", 0)
    for second in range(9):
        now[0] = float(second)
        await placement.report("a", [4])  # 2 is lost, and 4 goes on
    assert channel.sent[2:] == []
    assert placement.release("a", 4)
    await placement.report("a", [])
    assert channel.sent[2:] == [("a", [0, 2, 4])]
    assert not placement.release("a", 0)
    assert warnings == ["a does not hold group 2: the lease or the result was lost on its way; leased again"]
    assert placement.release("a", 2)


async def test_replicas_and_steps_behind_a_barrier_have_seeds_of_their_own():
    seeds = []

    class Seeds:
        async def notify(self, peer, message):
            seeds.append(message.seed)

    services = SimpleNamespace(channel=Seeds(), replicas=NAMES, log=None)
    placement = Placement(services, LeastLoaded(NAMES), barrier=True, kind="group")
    for seed in (1, 2, 1):
        await placement.hand_out([Lease(index, index, 2, 0, 0) for index in range(4)], seed=seed)
    assert len(set(seeds)) == 4
    assert seeds[:2] == seeds[4:], "they depend on nothing else"
