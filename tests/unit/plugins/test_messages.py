"""The full text of the error messages about plugins, since users read and search for all of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import rlx
from rlx.algorithms.make import make_algorithm
from rlx.boot import Boot, Endpoint, PluginRecord
from rlx.config.schema import Config
from rlx.config.sections.plugins import PluginsConfig
from rlx.datasets.open import check_dataset_args
from rlx.errors import HookError, PluginError, RlxError
from rlx.plugins.catalog import discover
from rlx.plugins.hooks import HOOKS, Hooks
from rlx.plugins.load import load
from rlx.plugins.registry import Registry
from rlx.plugins.resolve import resolve
from rlx.plugins.session import Plugins, open_hooks, resolve_component
from rlx.rewards.bound import check_reward_args

NAMES = ", ".join(HOOKS)


def message_of(call, *args, **options):
    """Return the message of the error that `call` raises."""
    with pytest.raises(RlxError) as caught:
        call(*args, **options)
    return str(caught.value)


@pytest.fixture
def lookup(tmp_path):
    """`lookup("judge")`: load the reward of that name as for a config in `tmp_path`."""

    def find(word, kind="rewards"):
        return load(resolve(kind, word, discover(), tmp_path))

    return find


def test_unknown_name(fake_dist, lookup):
    fake_dist("one", {"rlx.loggers": {"wandb": "one_m:Logger"}})
    assert message_of(lookup, "wadnb", "loggers") == (
        "Unknown logger 'wadnb'. Did you mean 'wandb'?\n"
        "Installed: console, jsonl, tensorboard, wandb.\n"
        "Install a distribution that offers it (entry-point group 'rlx.loggers'), or write './file.py:name' "
        "(beside the config) or 'package.module:name'. `rlx plugins` lists what is installed."
    )


def test_unknown_name_if_nothing_is_installed(lookup):
    assert message_of(lookup, "wandb", "commands") == (
        "Unknown command 'wandb'.\n"
        "Installed: none.\n"
        "Install a distribution that offers it (entry-point group 'rlx.commands'), or write './file.py:name' "
        "(beside the config) or 'package.module:name'. `rlx plugins` lists what is installed."
    )


def test_ambiguous_name(fake_dist, lookup):
    fake_dist("first", {"rlx.rewards": {"judge": "one:fn"}})
    fake_dist("second", {"rlx.rewards": {"judge": "two:fn"}}, version="2.1")
    assert message_of(lookup, "judge") == (
        "reward 'judge' is offered by 2 distributions:\n"
        "  first/judge  (first 1.0, one:fn)\n"
        "  second/judge  (second 2.1, two:fn)\n"
        "Write the one that you mean, as in 'first/judge'."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import not_there_xyz",
            (
                "its import raised ModuleNotFoundError: No module named 'not_there_xyz'\n"
                "Install the distribution that provides the module 'not_there_xyz'. (--traceback shows where.)"
            ),
        ),
        (
            "1 / 0",
            (
                "its import raised ZeroDivisionError: division by zero\n"
                "Report it to the authors of my-dist, or try another version. (--traceback shows where.)"
            ),
        ),
    ],
)
def test_broken_distribution(fake_dist, lookup, text, message):
    fake_dist("my-dist", {"rlx.rewards": {"bad": "bad_mod:score"}}, {"bad_mod.py": text})
    assert message_of(lookup, "bad") == f"reward 'bad' (my-dist 1.0, bad_mod:score): {message}"


def test_distribution_without_its_object(fake_dist, lookup):
    fake_dist("my-dist", {"rlx.rewards": {"bad": "bad_mod:score"}}, {"bad_mod.py": "def scores(): ..."})
    assert message_of(lookup, "bad") == (
        "reward 'bad' (my-dist 1.0, bad_mod:score): bad_mod has no 'score'. Did you mean 'scores'?"
    )


def test_distribution_without_its_module(fake_dist, lookup):
    fake_dist("my-dist", {"rlx.rewards": {"bad": "bad_pkg.mod:score"}})
    assert message_of(lookup, "bad") == (
        "reward 'bad': the module 'bad_pkg.mod' was not found. "
        "my-dist 1.0 names it, but its installation is incomplete: reinstall it."
    )


def test_broken_file(tmp_path, lookup):
    (tmp_path / "mine.py").write_text("1 / 0")
    assert message_of(lookup, "./mine.py:score") == (
        f"reward './mine.py:score' ({tmp_path}/mine.py:score): its import raised ZeroDivisionError: division by zero\n"
        "Correct the file. (--traceback shows where.)"
    )


def test_missing_file(tmp_path, lookup):
    assert message_of(lookup, "./mine.py:score") == (
        f"reward './mine.py:score': the file {tmp_path}/mine.py does not exist.\n"
        "The path is relative to the config's folder."
    )


def test_file_without_the_object(tmp_path, lookup):
    (tmp_path / "mine.py").write_text("def scores(): ...")
    assert message_of(lookup, "./mine.py") == (
        "reward './mine.py': say which object of the file to use, as in './mine.py:scores'."
    )
    assert message_of(lookup, "./mine.py:score") == (
        f"reward './mine.py:score' ({tmp_path}/mine.py:score): {tmp_path}/mine.py has no 'score'. "
        "Did you mean 'scores'?"
    )


def test_missing_module(lookup):
    assert message_of(lookup, "no_such_pkg.mod:score") == (
        "reward 'no_such_pkg.mod:score': the module 'no_such_pkg.mod' was not found. "
        "Is its package installed in this environment? For a file beside the config write './file.py:name'."
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "rlx>=2",
            (
                "wants rlx>=2, but this is rlx 0.1.0.\n"
                "Install a version of my-dist made for this rlx, or the rlx that it wants."
            ),
        ),
        (
            "rlx>=two",
            (
                "requires 'rlx>=two', which can't be read: "
                "Expected semicolon (after name with no version specifier) or end"
                "\n    rlx>=two\n       ^\n"
                "Report it to the authors of my-dist, or try another version."
            ),
        ),
    ],
)
def test_incompatible_distribution(fake_dist, lookup, line, message):
    fake_dist("my-dist", {"rlx.rewards": {"old": "old_mod:score"}}, requires=[line])
    assert message_of(lookup, "old") == f"reward 'old' (my-dist 1.0, old_mod:score) {message}"


class Judge:
    def __init__(self, *, url: str, retries: int = 3): ...

    def __call__(self, text): ...


class Silent: ...


def digits(text, reference=None, *, length: int = 3): ...


def positional_only(text, reference, /, length, *rest): ...


@pytest.mark.parametrize(
    ("check", "target", "args", "message"),
    [
        (check_reward_args, digits, {"lenght": 3},
         "W of O: lenght: unknown key. Did you mean 'length'?"),
        (check_reward_args, digits, {"length": "3"}, 'W of O: length: expected an integer, got "3" (text)'),
        (check_reward_args, digits, {"prompt": "x"}, "W of O: prompt: rlx sets this itself; it can't be chosen"),
        (check_reward_args, Judge, {}, "W of O: url: this is missing"),
        (check_reward_args, Judge, {"url": "x"},
         ("O takes (text), but a reward gets the completion and the reference answer by position. "
         "Write it as `def reward(to_be_evaluated, reference=None, **kwargs)`.")),
        (check_reward_args, lambda text: 1.0, {},
         ("O takes (text), but a reward gets the completion and the reference answer by position. "
         "Write it as `def reward(to_be_evaluated, reference=None, **kwargs)`.")),
        (check_reward_args, Silent, {}, "O is a class whose instances can't be called."),
        (check_reward_args, 3, {}, "O is a int, not a function."),
        (check_dataset_args, ["a"], {"size": 3},
         "W: O is an object, not a class or function: it takes no args."),
        (check_dataset_args, lambda size, /: ["a"], {},
         "W: O takes size by position only; make it a named argument."),
    ],
)  # fmt: skip
def test_invalid_signature(check, target, args, message):
    assert message_of(check, target, args, owner="O", where="W") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A = 3", " is a int, not a class."),
        ("class A: ...",
         (" does not say whether it learns from samples: "
         "give its class `rollouts = True` (RL) or `rollouts = False` (SFT).")),
        ("class A:\n    def __init__(self): raise OSError('no licence')",
         ": its constructor raised OSError: no licence"),
    ],
)  # fmt: skip
def test_object_that_is_not_an_algorithm(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    name = "./mine.py:A"
    record = resolve("algorithms", name, discover(), tmp_path)
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "algorithm": {"name": name}})
    plugins = Plugins([record], Hooks(), Registry())
    assert message_of(make_algorithm, plugins, config) == f"algorithm './mine.py:A' ({tmp_path}/mine.py:A){message}"


class Unlicensed:
    def __init__(self):
        raise OSError("no licence")


def hooks(**functions):
    return SimpleNamespace(**{name: rlx.hookimpl(function) for name, function in functions.items()})


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (hooks(rlx_step_edn=lambda step: None),
         f": unknown hook 'rlx_step_edn'. Did you mean 'rlx_step_end'? Hooks: {NAMES}."),
        (SimpleNamespace(rlx_step_end=lambda step: None),
         ": rlx_step_end lacks the marker `@rlx.hookimpl` and would not be called."),
        (SimpleNamespace(), f" implements no hook. Mark its functions with `@rlx.hookimpl`: {NAMES}."),
        (hooks(rlx_step_end=lambda stpe: None),
         (": rlx_step_end takes 'stpe' (positional or keyword), which is never passed. Did you mean 'step'? "
         "Its arguments, to take without defaults: step, metrics.")),
        (hooks(rlx_step_end=lambda step, metrics=None: None),
         (": rlx_step_end takes 'metrics=None' (positional or keyword), which is never passed. "
         "Did you mean 'metrics'? Its arguments, to take without defaults: step, metrics.")),
        (hooks(rlx_step_end=lambda *, step: None),
         (": rlx_step_end takes 'step' (keyword-only), which is never passed. "
         "Did you mean 'step'? Its arguments, to take without defaults: step, metrics.")),
        (SimpleNamespace(rlx_step_end=rlx.hookimpl(wrapper=True)(lambda step: (yield))),
         ": rlx_step_end is a hook wrapper; rlx calls plain hooks only."),
    ],
)  # fmt: skip
def test_hooks_that_would_not_be_called(plugin, message):
    record = PluginRecord("hooks", "notes", "my-dist", "1.0", "my_mod:Notes", "")
    assert message_of(Hooks, [(record, plugin)]) == f"hooks plugin 'notes' (my-dist 1.0, my_mod:Notes){message}"


def test_hooks_plugin_with_a_failing_constructor():
    record = PluginRecord("hooks", "notes", "my-dist", "1.0", "my_mod:Notes", "")
    assert message_of(Hooks, [(record, Unlicensed)]) == (
        "hooks plugin 'notes' (my-dist 1.0, my_mod:Notes): its constructor raised OSError: no licence"
    )


def test_hook_that_raises():
    def lose(step):
        raise KeyError("lost")

    record = PluginRecord("hooks", "notes", "my-dist", "1.0", "my_mod:Notes", "")
    relay = Hooks([(record, hooks(rlx_step_end=lose))]).relay
    with pytest.raises(HookError) as caught:
        relay.rlx_step_end(step=1, metrics={})
    assert str(caught.value) == (
        "hooks plugin 'notes' (my-dist 1.0, my_mod:Notes): its hook rlx_step_end raised KeyError: 'lost'\n"
        "Correct the plugin, leave it out of [plugins] enable, or list it in [plugins] best_effort."
    )


def boot(records, base_dir):
    config = {"model": {"path": "m"}, "dataset": {"name": "d"}}
    return Boot("rollout", "rollout-0", 0, 0, "", str(base_dir), config, records, True, Endpoint("", 0, "", "", ""))


def test_process_with_another_version_of_a_plugin(fake_dist, tmp_path):
    fake_dist("my-dist", {"rlx.rewards": {"judge": "judges:judge"}}, {"judges.py": "def judge(): ..."}, version="1.1")
    here = resolve("rewards", "judge", discover(), Path())
    there = PluginRecord("rewards", "judge", "my-dist", "1.0", here.target, here.sha256)
    assert message_of(Plugins.open, boot([there], tmp_path)) == (
        "reward 'judge' (my-dist 1.0, judges:judge) is not the same in this process: "
        "version was '1.0' for the launcher and is '1.1' here.\n"
        "Install the same versions everywhere, and don't change plugin files during a run."
    )


REGISTERS = "import rlx\n@rlx.hookimpl\ndef rlx_register(registry):\n    {call}\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('registry.add("rewrads", "x", 1)', "registers the unknown kind 'rewrads'. Did you mean 'rewards'?"),
        ('registry.add("rewards", "x", 1); registry.add("rewards", "x", 2)',
         "registers reward 'x' again; it is reward 'x' (my-dist 1.0, my_hooks)."),
    ],
)  # fmt: skip
def test_invalid_registration(fake_dist, call, message):
    fake_dist("my-dist", {"rlx.hooks": {"mine": "my_hooks"}}, {"my_hooks.py": REGISTERS.format(call=call)})
    record = resolve("hooks", "mine", discover(), Path())
    assert message_of(open_hooks, [record], PluginsConfig()) == f"hooks plugin 'mine' (my-dist 1.0, my_hooks) {message}"


def test_name_that_is_installed_and_registered(fake_dist):
    call = 'registry.add("rewards", "exact_match", 1)'
    fake_dist("my-dist", {"rlx.hooks": {"mine": "my_hooks"}}, {"my_hooks.py": REGISTERS.format(call=call)})
    catalog = discover()
    _, registry = open_hooks([resolve("hooks", "mine", catalog, Path())], PluginsConfig())
    assert message_of(resolve_component, "rewards", "exact_match", catalog, registry, Path()) == (
        "reward 'exact_match' is offered by rlx/exact_match and registered by "
        "reward 'exact_match' (my-dist 1.0, my_hooks).\n"
        "Write 'rlx/exact_match' for the first, or disable the hooks plugin."
    )


def test_plugin_errors_exit_with_2_and_hook_errors_with_1():
    assert PluginError.exit_code == 2
    assert HookError.exit_code == 1
