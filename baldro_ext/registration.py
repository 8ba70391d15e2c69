"""How the extension enters a running open-unlearning: its trainers, its configurations, its resolvers.

Imports nothing heavy: it is loaded by the Hydra plugin.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra

_PROVIDER = "baldro_ext"


def config_directory() -> Path:
    """Return the folder of the extension's YAML files, in a wheel and in an editable install alike."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def open_unlearning_is_loaded() -> bool:
    """Whether the `trainer` package imported in this process is open-unlearning's."""
    return hasattr(sys.modules.get("trainer"), "TRAINER_REGISTRY")


def add_to(search_path: ConfigSearchPath) -> None:
    """Register trainers and resolvers, and append the configurations to a Hydra search path, once."""
    from baldro_ext.hosts import open_unlearning, resolvers

    open_unlearning.register()
    resolvers.register()
    directory = f"file://{config_directory()}"
    if directory not in {element.path for element in search_path.get_path()}:
        search_path.append(_PROVIDER, directory)


def register() -> None:
    """Make BalDRO known to open-unlearning in a program that composes configurations itself.

    `src/train.py` and `src/eval.py` need no call: the Hydra plugin does it. Elsewhere call it once the
    checkout's `src` folder is on `sys.path`, before or after `hydra.initialize`. Calling it twice is fine.

    Raises:
        ImportError: There is no open-unlearning `trainer` package on `sys.path`.
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
    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        # Composed later through the plugin otherwise, which sees the loaded framework.
        search_path: Any = hydra.config_loader().get_search_path()
        add_to(search_path)
    else:
        from baldro_ext.hosts import open_unlearning, resolvers

        open_unlearning.register()
        resolvers.register()
