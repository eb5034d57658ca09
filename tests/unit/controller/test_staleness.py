from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlx.controller.groups.staleness import PendingGroup, Window


def window(k: int, groups: int = 2, steps: int = 10) -> Window:
    return Window(max_staleness=k, groups_per_step=groups, steps=steps)


def lease_all(w: Window, version: int) -> list[int]:
    return [w.lease(version) for _ in range(w.room(version))]


@pytest.mark.parametrize(("k", "version", "room"), [(0, 0, 2), (1, 0, 4), (3, 0, 8), (1, 9, 20), (5, 9, 20)])
def test_initial_room_is_k_plus_one_steps_but_at_most_the_run(k, version, room):
    assert window(k).room(version) == room


def test_a_dropped_group_makes_room_for_another():
    w = window(0)
    assert lease_all(w, 0) == [0, 1]
    assert w.room(0) == 0
    w.drop(1)
    assert lease_all(w, 0) == [2]


def test_a_step_waits_for_groups_that_would_be_too_stale_for_the_next_step():
    w = window(1)
    lease_all(w, 0)
    for group_id in (1, 2):
        w.finish(group_id, 0)
    assert w.pick(0, 0) == [1, 2]
    w.train([1, 2])
    assert lease_all(w, 1) == [4, 5]
    for group_id in (4, 5):
        w.finish(group_id, 1)
    assert w.pick(1, 1) is None, "0 and 3 were leased at version 0 and must be in step 1"
    w.finish(0, 1)
    w.finish(3, 1)
    assert w.pick(1, 1) == [0, 3]


def test_slow_groups_cannot_pile_up_behind_quick_ones():
    w = window(3)
    lease_all(w, 0)
    w.finish(0, 0)
    w.finish(1, 0)
    w.train([0, 1])
    for group_id in lease_all(w, 1):
        w.finish(group_id, 1)
    assert w.pick(1, 1) is None, "six groups are due by step 3: steps 1 to 3 must all be made of them"
    w.finish(5, 1)
    w.finish(6, 1)
    assert w.pick(1, 1) == [5, 6]


def test_groups_sampled_with_unverified_weights_are_not_trained():
    w = window(1)
    lease_all(w, 0)
    for group_id in range(4):
        w.finish(group_id, newest=1)
    assert w.pick(0, verified=0) is None
    assert w.pick(0, verified=1) == [0, 1]


def test_groups_are_picked_by_lease_version_then_id():
    w = window(2)
    w.restore([PendingGroup(7, 1, 1), PendingGroup(3, 2, 2), PendingGroup(9, 1, 1)], resample=[])
    assert w.pick(2, 2) == [7, 9]


def test_ids_to_be_sampled_again_come_before_new_ones():
    w = Window(max_staleness=1, groups_per_step=2, steps=10, next_id=6)
    w.restore([PendingGroup(5, 0, 0)], resample=[4, 1])
    assert lease_all(w, 0) == [1, 4, 6]


@pytest.mark.parametrize(
    "move", [lambda w: w.lease(0), lambda w: w.finish(0, 0), lambda w: w.train([1]), lambda w: w.drop(0)]
)
def test_illegal_transitions_are_refused(move):
    w = window(0)
    lease_all(w, 0)
    w.finish(0, 0)
    with pytest.raises(AssertionError):
        move(w)


@settings(max_examples=150, deadline=None)
@given(
    k=st.integers(0, 3),
    groups=st.integers(1, 3),
    steps=st.integers(1, 7),
    choices=st.randoms(use_true_random=False),
    drop_share=st.sampled_from([0.0, 0.1, 0.5]),
    lag=st.integers(0, 1),
)
def test_every_interleaving_trains_each_group_once_and_in_time(k, groups, steps, choices, drop_share, lag):
    """Groups finish and drop in any order; new weights may be verified at any time before the next sync."""
    w = window(k, groups, steps)
    out: dict[int, int] = {}
    done: dict[int, int] = {}
    trained: dict[int, int] = {}
    dropped: set[int] = set()
    version = verified = 0
    turns = 0
    while version < steps:
        turns += 1
        assert turns < 5000, "the run is stuck"
        while w.room(verified):
            out[w.lease(verified)] = verified
        ids = w.pick(version, verified)
        if ids is not None and choices.random() < 0.5:
            assert len(ids) == groups
            assert not set(ids) & (set(trained) | dropped)
            assert all(version - done[group_id] <= k for group_id in ids)
            w.train(ids)
            trained |= dict.fromkeys(ids, version)
            if verified < version:  # a sync begins only when the last one is verified
                verified = version
            version += 1
            if k == 0 or not lag:
                verified = version
        elif verified < version and choices.random() < 0.3:
            verified = version
        elif out:
            group_id = choices.choice(sorted(out))
            lease_version = out.pop(group_id)
            if choices.random() < drop_share:
                w.drop(group_id)
                dropped.add(group_id)
            else:
                done[group_id] = lease_version
                w.finish(group_id, newest=version)
    assert len(trained) == steps * groups
    assert set(range(w.next_id)) == set(trained) | dropped, "nothing was leased that no step could train"


class SlowWindow(Window):
    """`pick` as the rules say it: all groups are looked at and sorted in each call."""

    def pick(self, step, verified):
        ready = [
            group
            for group in self._pending.values()
            if group.newest_version is not None and group.newest_version <= verified
        ]
        ready.sort(key=lambda group: (group.lease_version, group.group_id))
        chosen = ready[: self.groups_per_step]
        if len(chosen) < self.groups_per_step:
            return None
        ids = {group.group_id for group in chosen}
        left = [
            group.lease_version + self.max_staleness for group in self._pending.values() if group.group_id not in ids
        ]
        for last in left:
            if sum(due <= last for due in left) > (last - step) * self.groups_per_step:
                return None
        return sorted(ids)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(1, 5), st.randoms(use_true_random=False), st.booleans())
def test_a_pick_is_that_of_the_slow_rule_on_any_history(k, groups, rng, resumed):
    made = [cls(max_staleness=k, groups_per_step=groups, steps=12) for cls in (Window, SlowWindow)]
    if resumed:
        count = rng.randrange(groups + 1)
        for window in made:
            window.next_id = groups + 3
            window.restore([PendingGroup(index, 0, 0) for index in range(count)], resample=range(count, groups + 3))
    step = verified = in_flight = 0
    leased = []
    for _ in range(100):
        action = rng.choice(["lease", "finish", "finish", "finish", "drop", "verify", "train"])
        if action == "lease" and made[0].room(verified):
            (group_id,) = {window.lease(verified) for window in made}
            leased.append(group_id)
        elif action == "finish" and leased:
            group_id = leased.pop(rng.randrange(len(leased)))
            for window in made:
                window.finish(group_id, in_flight)
        elif action == "drop" and leased and rng.random() < 0.3:
            group_id = leased.pop(rng.randrange(len(leased)))
            for window in made:
                window.drop(group_id)
        elif action == "verify":
            in_flight = step
            verified = in_flight if rng.random() < 0.7 else verified
        picks = [window.pick(step, verified) for window in made]
        assert picks[0] == picks[1]
        if action == "train" and picks[0] is not None and step <= verified:
            for window in made:
                window.train(picks[0])
            step += 1


def test_a_straggler_does_not_make_picking_slow():
    w = Window(max_staleness=4, groups_per_step=2000, steps=10)
    first, *others = lease_all(w, 0)
    began = time.process_time()
    for group_id in others[: 2000 * 4]:
        w.finish(group_id, 0)
        w.pick(4, 0)
    assert time.process_time() - began < 5, "about 0.05 s; sorting all groups in each pick takes minutes"
    assert w.pick(4, 0) is None
    w.finish(first, 0)
