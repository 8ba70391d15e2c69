"""An environment with everything the framework needs and without this package."""

import os
import sysconfig
import venv
from pathlib import Path

OURS = "baldro_ext"


def bare_environment(folder: Path) -> Path:
    """Make a virtual environment of links to the packages of this one, all but ours; return its Python.

    An editable install leaves through its `.pth` file, its metadata with the entry points, and its folders.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    version = f"python{sysconfig.get_python_version()}"
    target = folder / "lib" / version / "site-packages"
    _link(Path(sysconfig.get_path("purelib")), target)
    return python


def without_ours(environment: dict[str, str]) -> dict[str, str]:
    """Return environment variables that lead to no Python code."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    return {key: value for key, value in environment.items() if not key.startswith("PYTHON")} | quiet


def _link(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name == "hydra_plugins":  # a namespace, of which our plugin may be a part
            _link(entry, target / entry.name)
        elif OURS not in entry.name and not (target / entry.name).exists():
            os.symlink(entry, target / entry.name)
