"""`rlx run`: check a run, then carry it out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rlx.errors import UsageError
from rlx.launch.run_dir import default_run_dir, refuse_if_in_use
from rlx.preflight.load import LoadedRun, load_earlier, load_run
from rlx.preflight.plan import prepare
from rlx.preflight.trials.progress import Progress
from rlx.script.runner import find_script
from rlx_cli.commands.toml_text import document
from rlx_cli.messages import say_note, say_progress

AUTO = Path("auto")
"""`--resume auto`: resume the run of `--config`, or start it. A directory of that name is `./auto/`."""


def run_command(
    config: Path | None,
    sets: Sequence[str],
    policy: int | None,
    rollout: int | None,
    run_dir: Path | None,
    *,
    dry_run: bool,
    resume: Path | None,
    script: str | None = None,
    arguments: Sequence[str] = (),
) -> int:
    """Check a run, then carry it out; return the exit code. Raises UsageError if no process was started."""
    auto = resume == AUTO
    if auto and config is None:
        raise UsageError("--resume auto needs --config X.toml: it starts that run, or continues it.")
    if auto:
        resume = None
    if resume is None:
        loaded = _load_new(config, sets, policy, rollout, script, arguments)
    else:
        options = {"--config": config, "--run-dir": run_dir, "the launch script": script}
        if given := [option for option, value in options.items() if value is not None]:
            raise UsageError(
                f"--resume continues with the run's own config and directory; leave out {', '.join(given)}. "
                "--set changes a key, if the run stays the same run with it."
            )
        loaded = load_earlier(resume, sets, policy, rollout)
    auto = auto or (resume is None and loaded.config.run.resume == "auto")
    directory = run_dir or resume or (default_run_dir(loaded.config) if auto else None)
    if directory is not None and not dry_run:
        refuse_if_in_use(directory)
    plan = prepare(loaded, directory=directory, progress=Progress(say_progress), make_objects=dry_run)
    for note in plan.notes:
        say_note(note)
    if dry_run:
        sys.stdout.write(document(plan.config.model_dump(by_alias=True, mode="json")))
        return 0
    if plan.facts.only_config:
        raise UsageError(
            f"[model] path {plan.config.model.path!r} holds config.json alone, which is enough for `rlx check`. "
            "A run needs its weights and its tokenizer there, too."
        )
    if plan.lacks:
        raise UsageError("\n".join(["This machine can't run it.", *plan.lacks]))
    from rlx.launch.run import run

    return run(plan, run_dir=run_dir, resume=resume, auto=auto, argv=sys.argv)


def _load_new(
    config: Path | None,
    sets: Sequence[str],
    policy: int | None,
    rollout: int | None,
    script: str | None,
    arguments: Sequence[str],
) -> LoadedRun:
    if config is None:
        hint = f" Did you mean --config {script}?" if script is not None and script.endswith(".toml") else ""
        raise UsageError(f"Say what to run: rlx run --config X.toml [SCRIPT.py], or rlx run --resume RUN_DIR.{hint}")
    found = find_script(script, arguments, Path.cwd()) if script is not None else None
    return load_run(config, sets, policy, rollout, script=found)
