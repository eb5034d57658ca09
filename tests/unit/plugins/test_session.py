from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from rlx.boot import Boot, Endpoint
from rlx.config.schema import Config
from rlx.config.sections.plugins import PluginsConfig
from rlx.errors import PluginError
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.plugins.session import Plugins, open_hooks, resolve_component

FAMILY = """
import rlx

@rlx.hookimpl
def rlx_register(registry):
    for level in ("easy", "hard"):
        registry.add("rewards", f"family-{level}", lambda text, level=level: level)
"""


def boot(records, base_dir=Path(), **config):
    return Boot("rollout", "rollout-0", 0, 0, "", str(base_dir), config, records, True, Endpoint("", 0, "", "", ""))


def test_only_requested_plugins_are_loaded(fake_dist):
    fake_dist(
        "two",
        {"rlx.rewards": {"good": "good_m:fn", "bad": "bad_m:fn"}},
        {"good_m.py": "def fn(): return 1", "bad_m.py": "1/0"},
    )
    plugins = Plugins.open(boot([resolve("rewards", name, discover(), Path()) for name in ("good", "bad")]))
    assert not {"good_m", "bad_m"} & set(sys.modules)
    assert plugins.load("rewards", "good")() == 1
    assert "bad_m" not in sys.modules
    assert plugins.owner("rewards", "good") == "reward 'good' (two 1.0, good_m:fn)"
    assert plugins.names("rewards") == ["good", "bad"]
    with pytest.raises(PluginError, match=r"names no reward 'god'\. Did you mean 'good'"):
        plugins.load("rewards", "god")


@pytest.mark.parametrize(
    ("field", "value"), [("version", "0.9"), ("sha256", "00"), ("target", "other:fn"), ("dist", "elsewhere")]
)
def test_an_environment_that_differs_from_the_launchers_is_refused(fake_dist, field, value):
    fake_dist("one", {"rlx.rewards": {"r": "r_mod:fn"}}, {"r_mod.py": "def fn(): ..."})
    record = msgspec.structs.replace(resolve("rewards", "r", discover(), Path()), **{field: value})
    with pytest.raises(PluginError, match=rf"not the same in this process: {field} was '{value}'"):
        Plugins.open(boot([record]))


def test_a_file_that_changed_since_the_launch_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def fn(): return 1")
    record = resolve("rewards", "./mine.py:fn", discover(), tmp_path)
    file.write_text("def fn(): return 2")
    with pytest.raises(PluginError, match="sha256"):
        Plugins.open(boot([record], tmp_path))


def test_a_hooks_plugin_is_imported_only_if_enabled(fake_dist):
    fake_dist("fam", {"rlx.hooks": {"fam": "fam_mod"}}, {"fam_mod.py": FAMILY})
    Plugins.open(boot([]))
    assert "fam_mod" not in sys.modules


def test_components_registered_by_hooks_are_found_in_every_process(fake_dist):
    fake_dist("fam", {"rlx.hooks": {"fam": "fam_mod"}}, {"fam_mod.py": FAMILY})
    catalog = discover()
    hook = resolve("hooks", "fam", catalog, Path())
    _, registry = open_hooks([hook], PluginsConfig())
    reward = resolve_component("rewards", "family-hard", catalog, registry, Path())
    plugins = Plugins.open(boot([hook, reward]))
    assert plugins.load("rewards", "family-hard")("x") == "hard"
    assert plugins.owner("rewards", "family-hard") == "reward 'family-hard' (fam 1.0, fam_mod)"
    with pytest.raises(PluginError, match="Did you mean 'family-hard'"):
        resolve_component("rewards", "family-hrad", catalog, registry, Path())


def test_a_registered_name_never_overrides_an_installed_one(fake_dist):
    text = 'import rlx\n@rlx.hookimpl\ndef rlx_register(registry):\n    registry.add("rewards", "exact_match", 1)\n'
    fake_dist("fam", {"rlx.hooks": {"fam": "fam_mod"}}, {"fam_mod.py": text})
    _, registry = open_hooks([resolve("hooks", "fam", discover(), Path())], PluginsConfig())
    with pytest.raises(PluginError, match="rlx/exact_match and registered by"):
        resolve_component("rewards", "exact_match", discover(), registry, Path())
    assert resolve_component("rewards", "rlx/exact_match", discover(), registry, Path()).dist == "rlx"


OPTIONS = """
from pydantic import BaseModel

class Options(BaseModel):
    scale: float = 1.0

class Algorithm:
    def __init__(self, options: Options):
        self.options = options
"""


def test_a_component_is_made_with_its_options_model(fake_dist):
    fake_dist("mod", {"rlx.algorithms": {"mine": "opt_mod:Algorithm"}}, {"opt_mod.py": OPTIONS})
    plugins = Plugins.open(boot([resolve("algorithms", "mine", discover(), Path())]))
    made = plugins.make("algorithms", "mine", {"scale": 2.0})
    assert made.options == sys.modules["opt_mod"].Options(scale=2.0)


RATED = """
import rlx

class Rated:
    def __init__(self, rate: float = 1.0):
        self.rate = rate

    @rlx.hookimpl
    def rlx_step_end(self, metrics):
        metrics["rate"] = self.rate
"""


@pytest.mark.parametrize(("enable", "rate"), [("rated", 1.0), ({"name": "rated", "args": {"rate": 0.25}}, 0.25)])
def test_every_process_makes_a_hooks_plugin_with_the_options_of_the_config(fake_dist, enable, rate):
    fake_dist("mod", {"rlx.hooks": {"rated": "rated_mod:Rated"}}, {"rated_mod.py": RATED})
    config = {"model": {"path": "m"}, "dataset": {"name": "d"}, "plugins": {"enable": [enable]}}
    config = Config.model_validate(config).model_dump(by_alias=True, mode="json")
    assert config["plugins"]["enable"] == [enable]
    made = boot([resolve("hooks", "rated", discover(), Path())])
    metrics = {}
    Plugins.open(structs.replace(made, config=config)).hooks.rlx_step_end(step=1, metrics=metrics)
    assert metrics == {"rate": rate}
