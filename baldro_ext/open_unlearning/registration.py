"""Registers the extension's trainers, adapters, metrics, configurations and resolvers with open-unlearning.

Imports nothing slow, since the Hydra plugin loads this module.
"""

import importlib
import sys
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra

from baldro_ext.open_unlearning.early_check import refuse_unknown_choices, refuse_unknown_settings
from baldro_ext.registry import config_folders


def config_directory() -> Path:
    """Return the folder of the extension's YAML files, in a wheel or an editable install."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def open_unlearning_is_loaded() -> bool:
    """Whether the `trainer` package imported in this process is open-unlearning's."""
    return hasattr(sys.modules.get("trainer"), "TRAINER_REGISTRY") and "trainer.unlearn.grad_diff" in sys.modules


def add_to(search_path: ConfigSearchPath) -> None:
    """Register classes and resolvers, append the configurations to a search path, and check the choices.

    After ours come those of packages that add a forget loss or a weighting.
    """
    register_classes()
    if not _is_on(search_path):
        search_path.append("baldro_ext", f"file://{config_directory()}")
        for folder in config_folders():
            search_path.append(folder.parent.name, f"file://{folder}")
    if Path(sys.argv[0]).name in ("train.py", "eval.py"):  # not in a program that composes configurations itself
        folders = [Path(element.path.removeprefix("file://")) for element in search_path.get_path()]
        refuse_unknown_choices(sys.argv[1:], folders)
        refuse_unknown_settings(sys.argv[1:], [config_directory(), *config_folders()])


def register() -> None:
    """Register BalDRO with open-unlearning, in a program that composes configurations itself.

    `src/train.py` and `src/eval.py` do not need this call, since the Hydra plugin makes it. Call it after the
    checkout's `src` folder is on `sys.path` and before `hydra.initialize`; calling it twice does no harm. The
    metrics are registered if `evals` is already imported.

    Raises:
        ImportError: There is no open-unlearning `trainer` package on `sys.path`.
        RuntimeError: Hydra is already initialised, without the extension's configurations.
    """
    try:
        importlib.import_module("trainer")
    except ModuleNotFoundError as error:
        if error.name != "trainer":
            raise
    if not open_unlearning_is_loaded():
        found = getattr(sys.modules.get("trainer"), "__file__", None)
        problem = (
            f"the package 'trainer' at {found} is another one" if found else "no package 'trainer' can be imported"
        )
        raise ImportError(
            f"open-unlearning is not on sys.path ({problem}): put the src folder of a checkout first on it, "
            "as in sys.path.insert(0, 'open-unlearning/src')"
        )
    register_classes()
    hydra = GlobalHydra.instance()
    if hydra.is_initialized() and not _is_on(hydra.config_loader().get_search_path()):
        raise RuntimeError(
            "Hydra was initialised before open-unlearning was imported, so it does not find the configurations of "
            "baldro_ext: call baldro_ext.register() before hydra.initialize(...)"
        )


def register_classes() -> None:
    """Register trainers, adapters, metrics and resolvers in this process."""
    from baldro_ext.open_unlearning import adapters, resolvers, trainers

    trainers.register()
    adapters.register()
    if "evals.metrics" in sys.modules:  # importing it would import lm-eval, which takes seconds
        from baldro_ext.open_unlearning import metrics

        metrics.register()
    resolvers.register()


def _is_on(search_path: ConfigSearchPath) -> bool:
    return f"file://{config_directory()}" in {element.path for element in search_path.get_path()}
