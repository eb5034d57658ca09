"""`rlx`: the commands and their options. Each command's work is in a module of its own, imported when it is called:
`rlx --help` imports neither torch, vLLM, transformers nor pydantic.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from rlx_cli.boundary import drop_unwritable_output, exit_code, open_streams, show_warnings
from rlx_cli.group import CommandGroup, Group
from rlx_cli.plugin_commands import plugin_app, plugins_app

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Post-train language models with reinforcement learning.",
)

ConfigFile = Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="The config file.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key: --set policy.optimizer.lr=1e-5")
]
Policy = Annotated[
    int | None, typer.Option("--policy", metavar="N", help="Policy ranks: short for policy.parallel.dp_shard=N.")
]
Rollout = Annotated[int | None, typer.Option("--rollout", metavar="M", help="Engines: short for rollout.replicas=M.")]
Script = Annotated[str | None, typer.Argument(metavar="SCRIPT", help="A launch script: script.py, or package.module.")]
Arguments = Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="The script's own arguments.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]


Source = Annotated[
    str, typer.Argument(metavar="RUN_DIR|MODEL", help="A run, a model's folder, or its name on the Hub.")
]

models_app = typer.Typer(cls=Group, no_args_is_help=True, help="Models to try things with.")


@app.callback(invoke_without_command=True, no_args_is_help=True)
def rlx(
    version: Annotated[
        bool, typer.Option("--version", help="Show the versions of rlx and of what it runs on.")
    ] = False,
) -> None:
    if version:
        from rlx_cli.commands.version import version_text

        typer.echo(version_text())
        raise typer.Exit


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    script: Script = None,
    arguments: Arguments = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="X.toml", help="The config file.")] = None,
    sets: Sets = None,
    policy: Policy = None,
    rollout: Rollout = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", metavar="D", help="Write here. Default: a new folder below [run] dir.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print the resolved config; start nothing.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN_DIR|auto",
            help="Continue from a run's newest checkpoint. auto: that of --config, which starts if it has not begun.",
        ),
    ] = None,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Train."""
    from rlx_cli.run import run_command

    code = run_command(
        config,
        sets or [],
        policy,
        rollout,
        run_dir,
        dry_run=dry_run,
        resume=resume,
        script=script,
        arguments=arguments or [],
    )
    if not dry_run:
        drop_unwritable_output()  # a display that is gone does not change how the run ended
    raise typer.Exit(code)


@app.command()
def check(
    config: ConfigFile = None,
    script: Script = None,
    arguments: Arguments = None,
    sets: Sets = None,
    policy: Policy = None,
    rollout: Rollout = None,
    data: Annotated[bool, typer.Option("--data", help="Tokenise all rows: lengths, duplicates, bad rows.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN_DIR", help="Check a resume of this run, and list what --set changes."),
    ] = None,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Check a config completely, in seconds; start nothing."""
    from rlx_cli.check import check_command

    check_command(config, sets or [], policy, rollout, script, arguments or [], data=data, resume=resume)


@app.command()
def init(
    model: Annotated[
        str, typer.Option("--model", metavar="PATH", help="A model's folder, or its name on the Hub.")
    ] = "Qwen/Qwen3-0.6B",
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="X", help="A file, a plugin's name, ./file.py:name, or a Hub name.")
    ] = "gsm8k",
    reward: Annotated[
        str | None, typer.Option("--reward", metavar="X", help="A plugin's name, or ./file.py:name.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="X.toml", help="Write it there. Default: print it.")
    ] = None,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Write a config that fits a model, a dataset and a reward."""
    from rlx_cli.commands.init import init_command

    init_command(model, dataset, reward, output)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The directory of a run that has ended.")],
    step: Annotated[
        str | None, typer.Option("--step", metavar="N", help="Steps trained, or 'best'. Default: the newest.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="DTYPE", help="bfloat16, float16 or float32. Default: as in the first model."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write here. Default: export in the run directory.")
    ] = None,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Write a checkpoint of a run as a Hugging Face folder."""
    from rlx_cli.commands.export import export_command

    export_command(run_dir, step=step, dtype=dtype, to=to)


@app.command()
def ledger(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The directory of an RL run; it may go on.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Count a run's groups by state and check the ledger."""
    from rlx_cli.commands.ledger import ledger_command

    raise typer.Exit(ledger_command(run_dir, json=as_json))


@models_app.callback()
def models() -> None:
    """Make this a group, although it has one command only."""


@models_app.command()
def make_tiny(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    architecture: Annotated[
        str, typer.Option("--architecture", metavar="NAME", help="A model_type: qwen3, llama, mistral, qwen3_moe, ...")
    ] = "qwen3",
    layers: Annotated[int | None, typer.Option("--layers", metavar="N", help="Decoder layers. Default: 4.")] = None,
    hidden: Annotated[int | None, typer.Option("--hidden", metavar="N", help="Hidden size. Default: 128.")] = None,
    heads: Annotated[int | None, typer.Option("--heads", metavar="N", help="Attention heads. Default: 4.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", metavar="N", help="Longest sequence. Default: 512.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="With a chat template.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the random weights.")] = 0,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Make a tiny model with random weights and a character tokenizer."""
    from rlx_cli.commands.models import make_tiny_command

    sizes = {"--layers": layers, "--hidden": hidden, "--heads": heads, "--context": context}
    make_tiny_command(folder, architecture=architecture, chat=chat, seed=seed, sizes=sizes)


@app.command(name="generate")
def generate_completions(
    source: Source,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt; - reads it from stdin.")],
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", help="Longest completion.")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", metavar="T", help="0 is greedy.")] = 1.0,
    samples: Annotated[int, typer.Option("--n", metavar="N", help="Completions.")] = 1,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the sampling.")] = 0,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--text", help="A user's message, or text to continue. Default: by the tokenizer."),
    ] = None,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Sample completions of a prompt with vLLM."""
    from rlx.earlier.generate import Ask
    from rlx_cli.commands.generate import generate_command

    text = sys.stdin.read() if prompt == "-" else prompt
    generate_command(source, Ask(text, samples, max_tokens, temperature, seed, chat))


app.add_typer(plugins_app, name="plugins")
app.add_typer(plugin_app, name="plugin")
app.add_typer(models_app, name="models")


@app.command()
def schema(
    plugins: Annotated[
        bool, typer.Option("--plugins", help="With the options of installed plugins, which this imports.")
    ] = False,
) -> None:
    """Print the config's JSON Schema, for editors."""
    from rlx_cli.schema import schema_command

    schema_command(plugins=plugins)


def main() -> None:
    """Run one command and exit with its code."""
    open_streams()
    show_warnings()
    # Pydantic looks for plugins of its own in the metadata of all distributions, and fails if one of them is damaged.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(exit_code(lambda: app(prog_name="rlx", standalone_mode=False), traceback="--traceback" in sys.argv))


if __name__ == "__main__":
    main()
