from __future__ import annotations

from pathlib import Path

from rlx.boot import decode_boot, encode_boot
from rlx.config.schema import Config
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.launch.processes import RunProcesses, client_names
from rlx.plugins.hooks import Hooks
from rlx.plugins.registry import Registry
from rlx.plugins.session import Plugins
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.plan import RunPlan
from rlx.transport.keys import RunKeys


def test_the_controller_gets_the_launchers_dataset_fingerprints(tmp_path):
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}})
    data = Fingerprints(Fingerprint(20, ["a", "b"]), Fingerprint(2, ["c", "d"]))
    plugins = Plugins([], Hooks(), Registry())
    facts = ModelFacts(model_type="x")
    plan = RunPlan(config=config, facts=facts, base_dir=Path(), plugins=plugins, rollouts=True, data=data)
    processes = RunProcesses(plan, tmp_path, RunKeys.make(client_names(plan)), None, {})
    assert decode_boot(encode_boot(processes.controller())).data == data
