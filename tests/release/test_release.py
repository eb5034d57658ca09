"""Distributions as they would be published: built from a clone, installed where nothing else is."""

from __future__ import annotations

import email
import itertools
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"rlx": Path(), "rlx_plugin_deepseek": Path("plugins/models/rlx-plugin-deepseek")}
PYTHONS = ["3.11", "3.12", "3.13"]

NEEDS_TRAIN = [
    line for line in Path(__file__).with_name("needs_train.txt").read_text().splitlines() if not line.startswith("#")
]


pytestmark = pytest.mark.timeout(1200)  # installs and a whole unit suite


def run(command, folder, timeout=600, **env):
    """Run a command that must succeed, without this tree on its path, and return its output."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=kept | env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A clone of the last commit: what git does not track is in no distribution."""
    folder = tmp_path_factory.mktemp("clone") / "rlx"
    run(["git", "clone", "--quiet", ROOT, folder], ROOT)
    return folder


@dataclass(frozen=True)
class Built:
    """The two files of one distribution."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def built(clone, tmp_path_factory):
    """Each distribution's sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    found = {}
    for name, place in DISTRIBUTIONS.items():
        run([sys.executable, "-m", "build", "--outdir", folder, clone / place], clone)
        (sdist,), (wheel,) = folder.glob(f"{name}-*.tar.gz"), folder.glob(f"{name}-*.whl")
        found[name] = Built(sdist, wheel)
    return found


@dataclass(frozen=True)
class Environment:
    """An environment with rlx's wheel and what it depends on, and nothing of this tree."""

    python: Path
    folder: Path

    def run(self, *arguments, timeout=600):
        return run([self.python, *arguments], self.folder, timeout)


@pytest.fixture(scope="session", params=PYTHONS)
def environment(request, clone, built, tmp_path_factory):
    """The base install on each Python that this machine has."""
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    try:
        # pyenv's commands of versions that are not the default one need PYENV_VERSION.
        run([f"python{request.param}", "-m", "venv", folder / "venv"], folder, PYENV_VERSION=request.param)
    except (FileNotFoundError, AssertionError) as error:
        pytest.skip(f"Python {request.param} is not on this machine: {str(error).splitlines()[-1]}")
    made = Environment(folder / "venv/bin/python", clone)
    made.run("-m", "pip", "install", "--quiet", built["rlx"].wheel)
    return made


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_metadata_is_complete(name, built):
    metadata = email.message_from_string(_read_wheel(built[name].wheel, "METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Summary"].endswith(".")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Author"]
    assert metadata["Keywords"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert {line.split(",")[0] for line in metadata.get_all("Project-URL")} >= {"Homepage", "Changelog", "Issues"}
    classifiers = metadata.get_all("Classifier")
    assert {f"Programming Language :: Python :: {version}" for version in PYTHONS} <= set(classifiers)
    assert "Typing :: Typed" in classifiers


def test_extras_and_the_locked_list_agree(built):
    metadata = email.message_from_string(_read_wheel(built["rlx"].wheel, "METADATA"))
    assert metadata.get_all("Provides-Extra") == ["cpu", "gpu", "reasoning-gym", "train"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements/cpu.txt").read_text(), re.MULTILINE))
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    for requirement in map(Requirement, [*project["dependencies"], *itertools.chain(*extras)]):
        if requirement.name in ("rlx", "vllm"):  # vllm is the CUDA build; the list has the one for CPUs
            continue
        assert requirement.specifier.contains(pins[requirement.name]), requirement


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_index_accepts_both_files(name, built):
    both = built[name].sdist, built[name].wheel
    assert "PASSED" in run([sys.executable, "-m", "twine", "check", "--strict", *both], ROOT)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_sdist_holds_what_is_needed_to_build_and_test_it(name, built, clone):
    with tarfile.open(built[name].sdist) as archive:
        held = {path.split("/", 1)[1] for path in archive.getnames() if "/" in path}
    tracked = set(run(["git", "ls-files"], clone / DISTRIBUTIONS[name]).split())
    left_out = {path for path in tracked - held if not path.startswith((".ci/", "plugins/models/rlx-plugin-deepseek/"))}
    assert left_out <= {".gitignore"}
    assert held - tracked <= {"PKG-INFO", ".gitignore"}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_wheel_holds_the_packages_and_nothing_else(name, built, clone):
    with zipfile.ZipFile(built[name].wheel) as archive:
        held = {path for path in archive.namelist() if ".dist-info/" not in path}
    project = tomli.loads((clone / DISTRIBUTIONS[name] / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    tracked = set()
    for package in packages:
        parent = package.rpartition("/")[0]
        listed = run(["git", "ls-files", package], clone / DISTRIBUTIONS[name]).split()
        tracked |= {path.removeprefix(f"{parent}/") for path in listed}
        assert f"{package.rpartition('/')[2]}/py.typed" in held
    assert held == tracked


def test_the_base_install_has_what_its_metadata_says(environment):
    assert "No broken requirements" in environment.run("-m", "pip", "check")
    listed = environment.run("-m", "pip", "list")
    assert not re.search(r"^(torch|vllm|transformers|numpy)\b", listed, re.MULTILINE)


@pytest.mark.parametrize("command", [["--help"], ["plugins"], ["schema"], ["plugin", "new", "--help"]])
def test_the_base_install_runs(command, environment):
    assert environment.run("-m", "rlx_cli.main", *command)


def test_the_unit_tests_of_the_base_install_pass(environment):
    pins = re.findall(r"^(?:pytest|hypothesis)\S*==\S+$", (ROOT / "requirements/cpu.txt").read_text(), re.MULTILINE)
    environment.run("-m", "pip", "install", "--quiet", *pins)
    left_out = [f"--ignore={path}" for path in NEEDS_TRAIN]
    assert all((ROOT / path).exists() for path in NEEDS_TRAIN)
    output = environment.run("-m", "pytest", "tests/unit", "-q", "-p", "no:cacheprovider", "-n", "2", *left_out)
    assert int(re.search(r"(\d+) passed", output)[1]) > 1000


def _read_wheel(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()
