from __future__ import annotations

import pytest

from rlx.errors import RunError
from rlx.transport.keys import RunKeys


def test_saved_keys_are_private_and_can_be_loaded(tmp_path):
    path = tmp_path / "keys.json"
    keys = RunKeys.make(["policy", "rollout-0"])
    keys.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert RunKeys.load(path) == keys


def test_all_key_pairs_differ():
    keys = RunKeys.make(["policy", "rollout-0"])
    publics = {keys.server.public, *keys.client_keys.values()}
    assert len(publics) == 3
    assert RunKeys.make(["policy"]).server != keys.server


def test_an_endpoint_holds_one_secret_only():
    keys = RunKeys.make(["policy", "rollout-0"])
    endpoint = keys.endpoint("policy", "127.0.0.1", 5)
    assert (endpoint.public, endpoint.secret) == (keys.clients["policy"].public, keys.clients["policy"].secret)
    assert endpoint.server_public == keys.server.public


def test_keys_that_others_can_read_are_refused(tmp_path):
    path = tmp_path / "keys.json"
    RunKeys.make(["policy"]).save(path)
    path.chmod(0o644)
    with pytest.raises(RunError, match=r"is readable by users other than its owner\. Set its mode to 600\."):
        RunKeys.load(path)
