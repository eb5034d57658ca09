"""Models, model plugins and their packers in `rlx check` and `rlx run`, before any process is started."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import tomli
import torch
from safetensors.torch import load_file, save_file

from rlx.boot import Boot, Endpoint
from rlx.preflight.load import load_run
from rlx.preflight.plan import prepare
from rlx.script.plugins import open_plugins
from rlx.script.runner import find_script

EXAMPLE = Path(__file__).parents[3] / "examples/custom_model/toy_model.py"
PLUGINS = """
import dataclasses
import rlx
import rlx.packers.base
from rlx_models.hf import plugin as hf
from toy_model import ToyMapper, ToyModel, plugin

class Packer(rlx.DecoderOnlyLLMDataPacker):
    def __init__(self, prefix: str = "> "):
        self.prefix = prefix

class Pickier(ToyModel):
    @staticmethod
    def supported_model_types():
        return ["llama", "mistral"]

def raises(*args, **kwargs):
    raise RuntimeError("no can do")

no_plugin = 3
pickier = rlx.ModelPlugin.of(Pickier, ToyMapper)
unbuildable = dataclasses.replace(hf, build=raises)
unmappable = dataclasses.replace(hf, weight_mapper=raises)
with_packer = rlx.ModelPlugin.of(ToyModel, ToyMapper, Packer)

class Hooks:
    @rlx.hookimpl
    def rlx_register(self, registry):
        registry.add("models", "qwen3", with_packer)

if __name__ == "__main__":
    rlx.ModelRegistry.register_model(ToyModel, ToyMapper, Packer)
    rlx.launch_worker()
"""

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def own(project, tmp_path):
    """A config with the model of examples/custom_model (toy_model.py) and own.py beside it."""
    shutil.copy(EXAMPLE, tmp_path / "project")
    (tmp_path / "project" / "own.py").write_text(PLUGINS)
    return project()


@pytest.fixture
def refused(call):
    """`refused(config, *options)`: the message with which `rlx check` refuses the config, in one line."""

    def refused(*args):
        code, _, err = call("check", *args)
        assert code == 2, err
        assert "Traceback" not in err
        return " ".join(err.split())

    return refused


@pytest.fixture
def resolved(call):
    """`resolved(config, *options)`: the resolved config that `rlx run --dry-run` prints."""

    def resolved(*args):
        code, out, err = call("run", "--dry-run", "--config", *args)
        assert code == 0, err
        return tomli.loads(out)

    return resolved


def _change(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("plugin", "change", "message"),
    [
        (
            "hf",
            lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight"),
            "Tensors: 1 missing: model.layers.0.mlp.up_proj.weight",
        ),
        (
            "hf",
            lambda tensors: tensors.update(strange=torch.zeros(2)),
            "Tensors: 1 not in the model: strange",
        ),
        (
            "hf",
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}),
            "model.norm.weight has the shape [3]; according to config.json it must be [32]",
        ),
        (
            "./toy_model.py:plugin",
            lambda tensors: tensors.pop("model.layers.0.self_attn.k_proj.weight"),
            "Tensors: 1 missing: blocks.0.mixer.qkv.weight",
        ),
        (
            "./toy_model.py:plugin",
            lambda tensors: tensors.update({"model.layers.9.mlp.up_proj.weight": torch.zeros(2)}),
            "Tensors: 1 not in the model: model.layers.9.mlp.up_proj.weight",
        ),
        (
            "./toy_model.py:plugin",
            lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.weight": torch.zeros(5, 32)}),
            "blocks.0.gated.gate_up.weight has the shape [69, 32]; according to config.json it must be [128, 32]",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(refused, own, model, plugin, change, message):
    _change(model, change)
    assert message in refused(own, "--set", f"model.plugin={plugin}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.plugin=./own.py:no_plugin"], "is a int, not an rlx.ModelPlugin"),
        (
            ["model.plugin=./own.py:pickier"],
            "is a model of the type 'qwen3', and model plugin './own.py:pickier' (",
        ),
        (["model.plugin=./own.py:pickier"], "is for llama, mistral."),
        (["model.plugin=./own.py:unbuildable"], "building the model raised RuntimeError: no can do"),
        (["model.plugin=./own.py:unmappable"], "its weight_mapper raised RuntimeError: no can do"),
        (
            ["model.plugin=./toy_model.py:plugin", "policy.attention=eager"],
            "[policy] attention = 'eager' is for models of transformers; ToyModel brings its own",
        ),
        (["policy.attention=nonsense"], "[policy] attention = 'nonsense'"),
    ],
)
def test_plugins_that_do_not_fit_are_refused(refused, own, settings, message):
    assert message in refused(own, *[word for setting in settings for word in ("--set", setting)])


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("nonsense", "has the model_type 'nonsense', which neither the installed transformers nor a plugin"),
        ("vit", "transformers has no causal language model of model_type 'vit'. Install a plugin that has one"),
    ],
)
def test_an_unknown_model_type_is_refused(refused, own, model, model_type, message):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    assert message in refused(own)


def test_a_model_of_the_user_passes(call, own):
    code, out, err = call("check", own, "--set", "model.plugin=./toy_model.py:plugin")
    assert (code, err) == (0, "")
    assert "./toy_model.py:plugin" in out


@pytest.fixture
def packer(monkeypatch, tmp_path):
    """`packer(config, *settings)`: the name of the run's packer, and the class that a process loads by boot data."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "project"), *sys.path])

    def packer(config, *sets, script=None):
        found = find_script(script, [], tmp_path / "project") if script else None
        plan = prepare(load_run(config, sets, script=found))
        resolved = plan.config.model_dump(by_alias=True, mode="json")
        boot = Boot(
            kind="rollout",
            name="rollout-0",
            index=0,
            attempt=1,
            run_dir="",
            base_dir=str(plan.base_dir),
            config=resolved,
            plugins=plan.plugins.records,
            rollouts=True,
            endpoint=Endpoint("", 0, "", "", ""),
            script=plan.script,
        )
        name = plan.config.packer.name
        return name, open_plugins(boot).load("packers", name).__name__

    return packer


@pytest.mark.parametrize(
    ("options", "name", "made"),
    [
        ([], "decoder_only_llm", "DecoderOnlyLLMDataPacker"),
        (["model.plugin=./toy_model.py:plugin"], "decoder_only_llm", "DecoderOnlyLLMDataPacker"),
        (["model.plugin=./own.py:with_packer"], "./own.py:with_packer.packer", "Packer"),
        (["model.plugin=own:with_packer"], "own:with_packer.packer", "Packer"),
        (['plugins.enable=["./own.py:Hooks"]'], "qwen3.packer", "Packer"),
        (
            ["model.plugin=./own.py:with_packer", "packer.name=decoder_only_llm"],
            "decoder_only_llm",
            "DecoderOnlyLLMDataPacker",
        ),
    ],
)
def test_a_model_plugins_own_packer_is_the_default(packer, own, options, name, made):
    assert packer(own, *options) == (name, made)


def test_a_model_that_a_launch_script_registers_brings_its_packer(packer, own):
    assert packer(own, script="own.py") == ("qwen3.packer", "Packer")


def test_options_of_a_models_packer_are_checked_for_held_out_rows_too(resolved, refused, own, tmp_path):
    held_out = 'eval={dataset={name="./data.py:rows"},packer={args={prefix="! "}}}'
    options = [own, "--set", "model.plugin=./own.py:with_packer", "--set", held_out]
    config = resolved(*options)
    assert config["packer"] == {"name": "./own.py:with_packer.packer", "args": {}}
    assert config["eval"]["packer"] == {"name": "./own.py:with_packer.packer", "args": {"prefix": "! "}}
    assert "Did you mean 'prefix'?" in refused(*options, "--set", "packer.args={prefiks=1}")


def test_an_installed_model_plugin_brings_its_packer(packer, own, tmp_path, monkeypatch):
    info = tmp_path / "site" / "qwen_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qwen-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlx.models]\nqwen3 = own:with_packer\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert packer(own) == ("own:with_packer.packer", "Packer")


TWICE = """
import rlx
from toy_model import ToyMapper, ToyModel

class Other(ToyModel):
    pass

if __name__ == "__main__":
    rlx.ModelRegistry.register_model(MODEL, ToyMapper)
    rlx.launch_worker()
"""


@pytest.fixture
def installed_twice(own, fake_dist):
    """`installed_twice("ToyModel")`: a config whose script, entry.py, registers this model for a type.

    An installed distribution registers ToyModel for the same type.
    """
    fake_dist("toys", {"rlx.models": {"qwen3": "toy_model:plugin"}}, {"toy_model.py": EXAMPLE.read_text()})
    (own.parent / "toy_model.py").unlink()

    def script(model):
        (own.parent / "entry.py").write_text(TWICE.replace("MODEL", model))
        return own

    return script


def test_a_script_may_register_the_installed_model_again(call, installed_twice):
    code, out, err = call("check", installed_twice("ToyModel"), "entry.py")
    assert code == 0, err
    assert "ModelRegistry.register_model" in " ".join(out.split())


def test_a_script_may_not_replace_the_installed_model(refused, installed_twice):
    message = refused(installed_twice("Other"), "entry.py")
    assert "model plugin 'qwen3' is offered by toys/qwen3 and given by" in message


def _transformers(model, name, **options):
    """Replace the folder's model by a random one of transformers."""
    import transformers

    (model / "model.safetensors").unlink()
    make_config, make_model = (getattr(transformers, f"{name}{part}") for part in ("Config", "ForCausalLM"))
    shape = {"vocab_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 64, **options}
    tokens = {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}
    make_model(make_config(**shape, **tokens)).save_pretrained(model)


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("Llama", {"attention_dropout": 0.1}, "leaves out the model's dropout (attention_dropout = 0.1)"),
        ("Gemma2", {"head_dim": 32, "sliding_window": 16}, "`eager`, since sdpa leaves out the model's soft cap"),
        ("Bloom", {}, "gives no longest sequence: engines take 2048 tokens"),
    ],
)
def test_notes_say_how_an_architecture_is_trained(call, project, model, name, options, note):
    _transformers(model, name, **options)
    code, out, err = call("check", project())
    assert code == 0, err
    assert note in " ".join((out + err).split())


def test_the_context_of_a_model_that_gives_none_is_in_the_config(resolved, project, model):
    _transformers(model, "Bloom")
    assert resolved(project())["rollout"]["vllm"] == {"max_model_len": 2048}


@pytest.mark.parametrize(
    ("name", "options", "settings", "message"),
    [
        ("Gemma2", {"head_dim": 32}, ["policy.attention=sdpa"], "attn_logit_softcapping = 50.0). Leave the key out"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            [],
            "max_model_len (4096 by default): the model has rotary frequencies of the type 'dynamic'",
        ),
        ("Cohere2", {"head_dim": 32}, [], "hf_overrides = { sliding_window = 4095 }"),
        (
            "Qwen2",
            {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
            [],
            "sliding windows in some layers and not in others",
        ),
    ],
)
def test_models_that_engines_cannot_follow_are_refused(refused, project, model, name, options, settings, message):
    _transformers(model, name, **options)
    assert message in refused(project(), *[part for setting in settings for part in ("--set", setting)])
