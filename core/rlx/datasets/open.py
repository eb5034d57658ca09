"""Make and set up a dataset, by the rules of `rlx.datasets.base`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, TypeGuard

from rlx.config.schema import Config
from rlx.config.sections.data import DatasetConfig
from rlx.datasets.view import DatasetView, leaves
from rlx.errors import ConfigError, DatasetError, attribute
from rlx.plugins.contain import contained
from rlx.plugins.options import Options
from rlx.plugins.session import Plugins
from rlx.plugins.signature import accepted, named, parameters

if TYPE_CHECKING:
    from rlx.packers.tokenizer import Tokenizer


def open_dataset(plugins: Plugins, section: DatasetConfig, config: Config, tokenizer: Tokenizer) -> DatasetView:
    """Open the dataset that a section of the config names.

    Raises ConfigError if the section's `args` do not fit, and DatasetError if the dataset can't be made or is empty.
    """
    target, owner = plugins.load("datasets", section.name), plugins.owner("datasets", section.name)
    return make_dataset(target, section.args, config, tokenizer, owner=owner)


def make_dataset(
    factory_or_object: object,
    args: Mapping[str, object],
    config: Config,
    tokenizer: Tokenizer,
    *,
    owner: str = "dataset",
) -> DatasetView:
    """Make a dataset (if it is a factory) and set it up.

    Raises ConfigError if `args` do not fit the factory, and DatasetError if the dataset can't be made, is empty, or
    isn't a dataset.
    """
    check_dataset_args(factory_or_object, args, owner=owner)
    source = factory_or_object
    if is_factory(source):
        with attribute(owner, "opening it", as_=DatasetError), contained(owner, "opening it"):
            source = source(**run_objects(source, config, tokenizer), **dataset_options(source).bind(args))
    for leaf in leaves(source):
        _set_up(leaf, config, tokenizer, owner)
    view = DatasetView(source, owner)
    if len(view) == 0:
        raise DatasetError(f"{owner} is empty.")
    return view


def is_factory(thing: object) -> TypeGuard[Callable[..., object]]:
    """Return whether `thing` makes a dataset (a class or function) rather than being one."""
    return inspect.isclass(thing) or (callable(thing) and not hasattr(thing, "__getitem__"))


def check_dataset_args(
    factory_or_object: object, args: Mapping[str, object], *, owner: str = "dataset", where: str = "[dataset] args"
) -> None:
    """Raise ConfigError if `args` do not fit; opens nothing. `where` is their place in the config."""
    if is_factory(factory_or_object):
        dataset_options(factory_or_object).check(args, where=where, owner=owner)
    elif args:
        raise ConfigError(f"{where}: {owner} is an object, not a class or function: it takes no args.")


def dataset_options(factory: Callable[..., object]) -> Options:
    """Return the options of a class or function that makes a dataset."""
    return Options(factory, offered=list(run_objects(factory)))


def run_objects(
    factory: Callable[..., object], config: Config | None = None, tokenizer: Tokenizer | None = None
) -> dict[str, object]:
    """Return the arguments that rlx itself passes to a factory: those for parameters that are called `config`, `cfg` or
    `tokenizer`, or annotated as a Config.
    """
    own: dict[str, object] = {}
    for name, parameter in named(factory).items():
        if name in {"config", "cfg"} or _is_config(parameter.annotation):
            own[name] = config
        elif name == "tokenizer":
            own[name] = tokenizer
    return own


def _is_config(annotation: object) -> bool:
    """Return whether an annotation is rlx's Config, as a class or as text. The whole name must match: a `MyConfig` may
    be a model of the dataset's own options.
    """
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.strip("'\"").rpartition(".")[2] == "Config"


def _set_up(leaf: object, config: Config, tokenizer: Tokenizer, owner: str) -> None:
    setup = getattr(leaf, "setup", None)
    if not callable(setup):
        return
    with attribute(owner, "its setup", as_=DatasetError):
        if _takes_tokenizer(setup):
            setup(config, tokenizer)
        else:
            setup(config, **accepted(setup, {"tokenizer": tokenizer}))


def _takes_tokenizer(setup: Callable[..., object]) -> bool:
    """Return whether `setup` takes the tokenizer by position, as `(config, tokenizer)` and `(config, *rest)` do,
    but not `(config)` and `(config, verbose=False)`.
    """
    known = parameters(setup)
    positional = [p for p in known if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    if len(positional) >= 2:
        return positional[1].name == "tokenizer" or positional[1].default is Parameter.empty
    return any(p.kind is Parameter.VAR_POSITIONAL for p in known)
