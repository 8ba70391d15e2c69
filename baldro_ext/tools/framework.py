"""Pinned checkouts of open-unlearning, the framework that this package extends.

open-unlearning is not on PyPI: people run it from a source checkout, by `python src/train.py`. This module keeps one
verified checkout of each supported generation in the user's cache.

Environment variables: `BALDRO_CACHE` replaces the cache folder; `OPEN_UNLEARNING_REPO` names the git source, a URL or
the path of a local clone.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.version import Version
from platformdirs import user_cache_path

from baldro_ext import suggest
from baldro_ext.errors import BaldroError, RefusedError, UnreachableError, UsageError, install_command
from baldro_ext.tools.git import anonymous, complaint, git, output

DEFAULT_SOURCE = "https://github.com/filyp/open-unlearning"
"""A public fork that has upstream's history and the branch of G3."""
PRIMARY = "G2"
REQUIRES = ("datasets", "deepspeed", "hydra-colorlog", "lm-eval", "rouge-score", "scikit-learn", "scipy")
"""Distributions that a checkout imports and this package does not require."""


class CheckoutMissingError(UsageError):
    """A checkout is not installed."""


@dataclass(frozen=True)
class Generation:
    """A supported version of the framework: its full commit hash and the library versions it pins."""

    name: str
    commit: str
    transformers: str
    lm_eval: str
    origin: str


GENERATIONS = {
    "G1": Generation("G1", "d3d7cf9e6b3c125d16687d4232680d8d83548f1a", "4.45.1", "0.4.8", "upstream, Dec 2025"),
    "G2": Generation("G2", "4ad738aaf60f6a4385f6e2506d01da99e76c31f3", "4.51.3", "0.4.11", "upstream, Mar 2026"),
    "G3": Generation("G3", "c3301d85484e706da7481dd0cb23022d6693c9c1", "5.5.4", "0.4.11", "proposed, Jun 2026"),
}
"""By name, oldest first."""


def installed(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def generation(name: str) -> Generation:
    """Return the generation of this name, in any case."""
    return GENERATIONS[suggest.chosen(name.upper(), GENERATIONS, "framework generation")]


def series(version: str | None) -> tuple[int, ...]:
    """Return major and minor of a version; empty for none."""
    return Version(version).release[:2] if version else ()


def fits(gen: Generation, transformers: str | None) -> bool:
    """Whether a generation is made for a version of transformers: the same minor release; patches only mend it."""
    return series(transformers) == series(gen.transformers)


def check_packages(needed: Iterable[str] = REQUIRES) -> None:
    """Refuse an environment without the packages that a checkout imports."""
    if missing := [name for name in needed if installed(name) is None]:
        raise BaldroError(f"open-unlearning needs {', '.join(missing)}: {install_command('framework')}")


def made_for(transformers: str | None = None) -> Generation:
    """Return the generation that fits a version of transformers (default: the installed), or raise BaldroError."""
    transformers = transformers or installed("transformers")
    for gen in GENERATIONS.values():
        if fits(gen, transformers):
            return gen
    pinned = ", ".join(f"{gen.transformers} ({gen.name})" for gen in GENERATIONS.values())
    raise BaldroError(
        f"no generation of open-unlearning is made for transformers {transformers}: install one of {pinned}"
    )


def cache() -> Path:
    """Return the absolute path of the cache folder, which may not exist yet."""
    return Path(os.environ.get("BALDRO_CACHE") or user_cache_path("baldro_ext")).expanduser().absolute()


def location(gen: Generation) -> Path:
    """Return the absolute path of a checkout, which may not exist yet."""
    return cache() / "open-unlearning" / f"{gen.name}-{gen.commit[:7]}"


def state(gen: Generation, place: Path | None = None) -> str:
    """Return `installed`, `missing`, or how the checkout differs: `modified (a.py, b.py)`.

    Untracked files do not count: they are results of runs. Raises BaldroError if there is a checkout but no git.
    """
    path = place or location(gen)
    if not os.path.lexists(path):
        return "missing"
    if not (path / ".git").exists():
        return "modified (not a git checkout)"
    commit = git(path, "rev-parse", "--verify", "HEAD")
    status = git(path, "status", "--porcelain", "--untracked-files=no")
    if commit.returncode or status.returncode:
        return f"modified ({complaint(commit if commit.returncode else status)})"
    if commit.stdout.strip() != gen.commit:
        return f"modified (at commit {commit.stdout.strip()})"
    changed = [line[3:] for line in status.stdout.splitlines()]
    return f"modified ({suggest.shortened(changed, 5)})" if changed else "installed"


def checkout(gen: Generation) -> Path:
    """Return the folder of a verified checkout.

    Raises:
        CheckoutMissingError: It is not installed.
        RefusedError: It is not the unmodified pinned commit.
    """
    path, found, command = location(gen), state(gen), f"baldro framework install {gen.name}"
    if found == "missing":
        raise CheckoutMissingError(
            f"open-unlearning {gen.name} ({gen.commit[:7]}) is not installed at {path}\n"
            f"Install it with: {command}\n"
            f"From a local clone: OPEN_UNLEARNING_REPO=/path/to/open-unlearning {command}"
        )
    if found != "installed":
        quoted = shlex.quote(str(path))
        raise RefusedError(
            f"{path} is not the unmodified commit {gen.commit} ({gen.name}): {found}. Nothing was changed.\n"
            f"Move it aside with: mv {quoted} {quoted}.mine\nThen run: {command}"
        )
    return path


def install(
    gen: Generation, source: str | None = None, notify: Callable[[str], None] = lambda message: None
) -> tuple[Path, bool]:
    """Put the pinned checkout into the cache, unless it is there; return its folder, and whether this call made it.

    Args:
        gen: Which generation.
        source: Git URL or local clone; default: `OPEN_UNLEARNING_REPO`, else `DEFAULT_SOURCE`.
        notify: Receives one line before each step that may take long.

    Raises:
        RefusedError: The folder is not the unmodified pinned commit; it was not changed.
        UnreachableError: The source cannot be reached or lacks the commit.
        BaldroError: The cache cannot be written, or git is not installed.
    """
    path = location(gen)
    try:
        with suppress(CheckoutMissingError):  # before locking, so that a read-only cache can be used
            return checkout(gen), False
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, notify):
            with suppress(CheckoutMissingError):
                return checkout(gen), False
            _build(gen, path, source or os.environ.get("OPEN_UNLEARNING_REPO") or DEFAULT_SOURCE, notify)
    except OSError as error:
        remedy = "Free some space, or set BALDRO_CACHE to a folder you can write"
        raise BaldroError(f"cannot use {path.parent}: {error.strerror or error}\n{remedy}") from error
    return path, True


def _locked(path: Path, notify: Callable[[str], None]) -> AbstractContextManager[object]:
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        notify(f"{path.name}: waiting for another process that is installing it")
        return lock.acquire()


def _build(gen: Generation, path: Path, source: str, notify: Callable[[str], None]) -> None:
    """Make the checkout beside `path`, verify it, and rename it, so that `path` is never incomplete."""
    local = Path(source).expanduser()
    origin = str(local.absolute()) if local.exists() else source  # git runs in another folder
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an install that was killed
    notify(f"{gen.name}: fetching {gen.commit[:7]} from {anonymous(source)}")
    try:
        output(path.parent, "init", "--quiet", "--template=", partial.name)
        fetched = git(partial, "fetch", "--quiet", "--no-tags", "--depth=1", "--", origin, gen.commit)
        if fetched.returncode:
            raise UnreachableError(
                f"cannot get open-unlearning {gen.name} ({gen.commit}) from {anonymous(source)}\n"
                f"git says: {complaint(fetched)}\nCheck the network and the address, or use a clone that has it: "
                f"OPEN_UNLEARNING_REPO=/path/to/open-unlearning baldro framework install {gen.name}"
            )
        output(partial, "checkout", "--quiet", "--detach", gen.commit)
        if (made := state(gen, partial)) != "installed":
            raise BaldroError(f"git left {gen.name} {made}: try again")
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
