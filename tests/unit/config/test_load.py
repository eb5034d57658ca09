from __future__ import annotations

import pytest

from rlx.config.load import load_config
from rlx.config.rules import learning_contradictions
from rlx.errors import ConfigError

GOOD = '[model]\npath = "m"\n[dataset]\nname = "d"\n[[rewards]]\nname = "r"\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "x.toml"
        path.write_text(text)
        return path

    return write


BEST = '[checkpoint.best]\nmetric = "eval/{}"\n[eval]\nevery = 1\n[eval.dataset]\nname = "d"\n'


def error_of(call):
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.exit_code == 2
    assert "pydantic" not in str(caught.value)
    return str(caught.value)


def test_command_line_values_override_the_file_and_the_last_one_wins(write):
    path = write(GOOD + "[rollout]\nreplicas = 9\n")
    sets = ["rewards.0.weight=2", "policy.optimizer.lr=1e-5", "run.name=my-run", "run.seed=1", "run.seed=2"]
    loaded = load_config(path, sets, policy=3, rollout=4)
    config = loaded.config
    assert (config.rewards[0].weight, config.policy.optimizer.lr, config.run.name, config.run.seed) == (
        2,
        1e-5,
        "my-run",
        2,
    )
    assert (config.policy.parallel.dp_shard, config.policy.parallel.dp_replicate, config.rollout.replicas) == (3, 1, 4)
    assert loaded.base_dir == path.parent


def test_policy_option_sets_the_number_of_processes_despite_the_file(write):
    path = write(GOOD + "[policy.parallel]\ndp_replicate = 4\n")
    assert load_config(path, policy=2).config.policy.parallel.world_size == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[policy.optimizer]\nlrr = 1.0\n", "[policy.optimizer] lrr: unknown key. Did you mean 'lr'?"),
        ("[rollot]\nreplicas = 1\n", "[rollot]: unknown section. Did you mean 'rollout'?"),
        ("[rollout]\nsteps = 1\n", "[rollout] steps: unknown key. It is a key of [run]."),
        ('[rollout]\nmax_tokens = "512"\n', '[rollout] max_tokens: expected an integer, got "512" (text)'),
        ("[rollout]\nmax_tokens = 512.0\n", "[rollout] max_tokens: expected an integer, got 512.0"),
        ("[rollout]\nreplicas = true\n", "[rollout] replicas: expected an integer, got true"),
        ("[rollout]\nreplicas = 0\n", "[rollout] replicas: must be at least 1, got 0"),
        ("[rollout]\ntemperature = 0\n", "[rollout] temperature: must be at least 0.01, got 0: vLLM would"),
        ("[rollout]\ntemperature = inf\n", "[rollout] temperature: expected a finite number, got inf"),
        ("[run]\nport = 70000\n", "[run] port: must be at most 65535, got 70000"),
        ('[run]\ndevice = "gpu"\n', "[run] device: expected 'cpu' or 'cuda'"),
        ("run = 3\n", "run: expected a table, got 3"),
        ("[policy.optimizer]\nbetas = [0.9]\n", "[policy.optimizer] betas[1]: this is missing"),
        ('[[rewards]]\nweight = 1\n', "[[rewards]] number 2, name: this is missing"),
        ('[[rewards]]\nname = "s"\nwieght = 1\n', "[[rewards]] number 2, wieght: unknown key. Did you mean 'weight'?"),
        ('[[rewards]]\nname = ""\n', "[[rewards]] number 2, name: must have at least 1 character"),
        ('[plugins]\nenable = [3]\n', "[plugins] enable[0]: expected text, got 3"),
        ('[plugins]\nenable = [{ nmae = "x" }]\n', "[[plugins.enable]] number 1, name: this is missing"),
        ('[plugins]\nenable = [{ name = "x", agrs = {} }]\n',
         "[[plugins.enable]] number 1, agrs: unknown key. Did you mean 'args'?"),
        ('[plugins]\nenable = ["x", { name = "x" }]\n', "[plugins] enable: 'x' is listed more than once"),
        ('[rollout]\nabcdef = 1\n', "[rollout] abcdef: unknown key. Keys: replicas, "),
        ('[abcdefgh]\nx = 1\n', "[abcdefgh]: unknown section. Sections: run, model, dataset, "),
        ('[rollout.vllm]\nseed = 3\n', "[rollout.vllm] seed: rlx sets this itself; use [run] seed"),
        ('[rollout.vllm]\nweight_transfer_config = 3\n', "rlx sets this itself; it can't be chosen"),
        ('[plugins]\nbest_effort = ["x"]\n', "[plugins] best_effort: 'x' is not in `enable`"),
        ('[[rewards]]\nname = "r"\n', "[[rewards]]: 'r' is listed more than once"),
        ("[run]\nsteps = 5\n[policy.optimizer]\nwarmup_steps = 6\n", "warmup_steps = 6 is more than [run] steps = 5"),
        ("[run]\nsteps = 5\nepochs = 2\n", "[run] epochs = 2 and steps = 5: set only one of them"),
        ("[run]\nepochs = 0.0\n", "[run] epochs: must be greater than 0, got 0"),
        ("[policy.optimizer]\nmin_lr_ratio = 0.1\n", "a constant schedule never gets there"),
        ('[checkpoint.best]\nmetric = "eval/loss"\n', "[checkpoint.best]: nothing is evaluated"),
        ('[checkpoint.best]\nmetric = "eval/x"\n', "[checkpoint.best] prefer: say whether 'lowest' or 'highest'"),
        ('[checkpoint.best]\nprefer = "low"\n', "[checkpoint.best] metric: this is missing"),
        ('[eval.dataset]\nname = "d"\n[checkpoint.best]\nmetric = "eval/loss"\n', "without [eval] every, only the"),
        ("[policy.optimizer]\nbetas = [0.9, 1.0]\n", "betas[1]: must be at least 0 and less than 1, got 1.0"),
    ],
)  # fmt: skip
def test_errors_use_the_names_of_the_config_file(write, text, message):
    # A table can't follow [[rewards]] before a top-level key: plain keys go first.
    path = write(text + GOOD if text.startswith("run =") else GOOD + text)
    error = error_of(lambda: load_config(path))
    assert message in error
    assert str(path) in error


def test_all_problems_are_reported_at_once(write):
    path = write('[model]\npth = "m"\n[rollout]\nreplicas = 0\n')
    lines = error_of(lambda: load_config(path)).splitlines()
    assert lines[0] == f"{path}: 4 problems"
    assert sorted(lines[1:]) == [
        "  [dataset]: this section is missing. It needs: name",
        "  [model] path: this is missing",
        "  [model] pth: unknown key. Did you mean 'path'?",
        "  [rollout] replicas: must be at least 1, got 0",
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "shown"),
    [("[run]\nsteps = = 3\n", 2, 9, "steps = = 3"), ("[run\n", 1, 5, "[run"), ('a = "x', 1, 7, 'a = "x')],
)
def test_a_toml_syntax_error_shows_line_and_column(write, text, line, column, shown):
    error = error_of(lambda: load_config(write(text)))
    assert f"line {line}, column {column}" in error
    assert error.splitlines()[1] == f"  {shown}"
    assert error.splitlines()[2].index("^") == column + 1


def test_missing_and_binary_files_are_errors(tmp_path):
    assert f"The config file '{tmp_path}/absent.toml' does not exist." in error_of(
        lambda: load_config(tmp_path / "absent.toml")
    )
    assert f"The config file '{tmp_path}' is a folder." in error_of(lambda: load_config(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in error_of(lambda: load_config(tmp_path / "binary"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "policy.optimizer.lrr=1",
            "[policy.optimizer] lrr: unknown key. Did you mean 'lr'? (from --set policy.optimizer.lrr=1)",
        ),
        ("policy", "write key=value"),
        (
            'plugins.enable=[{name="x", agrs={}}]',
            "[[plugins.enable]] number 1, agrs: unknown key. Did you mean 'args'? (from --set plugins.enable=",
        ),
        ("=3", "write key=value"),
        ("rewards.7.weight=1", "'7' is not one of the 1 entries"),
        ("rewards.x.weight=1", "'x' is not one of the 1 entries"),
        ("model.path.x=1", "model.path is a value, not a section"),
        ("run.steps=many", 'expected an integer, got "many" (text) (from --set run.steps=many)'),
    ],
)
def test_invalid_set_options_are_errors(write, setting, message):
    assert message in error_of(lambda: load_config(write(GOOD), [setting]))


@pytest.mark.parametrize("option", ["policy", "rollout"])
def test_an_invalid_option_is_named_in_the_error(write, option):
    assert f"must be at least 1, got 0 (from --{option} 0)" in error_of(lambda: load_config(write(GOOD), **{option: 0}))


@pytest.mark.parametrize(
    ("text", "rollouts", "message"),
    [
        ("", True, None),
        ("", False, "it ignores rewards"),
        ("rewards = []\n", True, "needs at least one reward"),
        ("rewards = []\n", False, None),
        ("rewards = []\n[async]\nmax_staleness = 1\n", False, "max_staleness = 1"),
        ("rewards = []\n[rollout]\nreplicas = 2\n", False, "[rollout] replicas"),
        ("rewards = []\n[rollout]\nreplicas = 1\n", False, None),
        ("[policy]\nmax_sequence_tokens = 9\n", True, "only SFT rows"),
        ("rewards = []\n[policy]\nmax_sequence_tokens = 9\n", False, None),
        ('rewards = [{name = "r", weight = 0.0}]\n', True, "every weight is 0"),
        ('filter_rewards = [{name = "r", weight = 0.0}]\n', True, "[[filter_rewards]]: every weight is 0"),
        ('rewards = []\nfilter_rewards = [{name = "r"}]\n', False, "there are no groups"),
        ("algorithm = {drop_uninformative = true, group_size = 1}\n", True, "is never informative"),
        ("rewards = []\nalgorithm = {drop_uninformative = true}\n", False, "there are no groups"),
        ("algorithm = {drop_uninformative = true}\n", True, None),
        (BEST.format("loss"), True, "an evaluation of algorithm 'grpo' has eval/accuracy and eval/reward"),
        (BEST.format("reward"), True, None),
        ("rewards = []\n" + BEST.format("accuracy"), False, "has eval/loss and eval/perplexity"),
        ("rewards = []\n" + BEST.format("accuracy") + '[plugins]\nenable = ["mine"]\n', False, None),
        ("rewards = []\n" + BEST.format("loss"), False, None),
    ],
)
def test_contradictions_between_the_algorithm_and_the_config(write, text, rollouts, message):
    own = text if text.startswith("rewards") else 'rewards = [{name = "r"}]\n' + text
    path = write(own + '[model]\npath = "m"\n[dataset]\nname = "d"\n')
    found = learning_contradictions(load_config(path).config, rollouts=rollouts)
    assert (message is None) == (not found)
    assert message is None or message in found[0]
