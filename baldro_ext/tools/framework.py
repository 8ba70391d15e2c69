"""Pinned checkouts of open-unlearning, the framework this package extends.

open-unlearning is not on PyPI: it is a source checkout that people run with `python src/train.py`.
This module keeps one verified checkout per supported generation in the user's cache.

Environment: `BALDRO_CACHE` replaces the cache folder, `OPEN_UNLEARNING_REPO` the git source (a URL or
the path of a local clone, bare or not).
"""

from __future__ import annotations

import os
import shlex
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from baldro_ext import suggest
from baldro_ext.errors import BaldroError
from baldro_ext.tools.git import anonymous, complaint, git, must

DEFAULT_SOURCE = "https://github.com/filyp/open-unlearning"
"""Public repository holding upstream's history and the branch of G3."""


class FrameworkError(BaldroError):
    """A checkout cannot be read or made; the message says why and what to do."""


class FrameworkMissingError(FrameworkError):
    """No verified checkout is there."""

    exit_code = 2


class FrameworkModifiedError(FrameworkError):
    """Something other than the pinned commit lies at the place of a checkout, so it is left alone."""

    exit_code = 4


class SourceError(FrameworkError):
    """The git source cannot be reached or lacks the pinned commit."""

    exit_code = 3


@dataclass(frozen=True)
class Generation:
    """One supported version of the framework: full commit hash (40 hex digits) and the versions it pins."""

    name: str
    commit: str
    transformers: str
    lm_eval: str
    summary: str


@dataclass(frozen=True)
class State:
    """What lies at `path`; `details` names the changed files, the commit found, or git's complaint."""

    kind: Literal["installed", "missing", "modified", "wrong commit"]
    path: Path
    details: tuple[str, ...] = ()


_G1 = Generation("G1", "d3d7cf9e6b3c125d16687d4232680d8d83548f1a", "4.45.1", "0.4.8", "upstream, Dec 2025")
_G2 = Generation("G2", "4ad738aaf60f6a4385f6e2506d01da99e76c31f3", "4.51.3", "0.4.11", "upstream, Mar 2026")
_G3 = Generation("G3", "c3301d85484e706da7481dd0cb23022d6693c9c1", "5.5.4", "0.4.11", "proposed, Jun 2026")
GENERATIONS: dict[str, Generation] = {gen.name: gen for gen in (_G1, _G2, _G3)}
"""By name, the oldest first."""
PRIMARY = "G2"
REQUIRES = ("datasets", "deepspeed", "hydra-colorlog", "lm-eval", "rouge-score", "scikit-learn", "scipy")
"""Distributions that a checkout imports, beside those that this package needs itself."""


def installed(distribution: str) -> str | None:
    """Return the version of a distribution that is installed here; `None` where it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def generation(name: str, known: Mapping[str, Generation] = GENERATIONS) -> Generation:
    """Return the generation called `name`, in any case; ValueError lists the names and the closest."""
    names = {key.casefold(): key for key in known}
    if name.casefold() in names:
        return known[names[name.casefold()]]
    raise ValueError(f"unknown framework generation {name!r}: {suggest.known(name, known)}")


def made_for(transformers: str, known: Mapping[str, Generation] = GENERATIONS) -> Generation:
    """Return the generation that pins this release of transformers; FrameworkError names the releases that one does."""
    for gen in known.values():
        if gen.transformers == transformers:
            return gen
    pinned = ", ".join(f"{gen.transformers} ({gen.name})" for gen in known.values())
    raise FrameworkError(
        f"no generation of open-unlearning was tested with transformers {transformers}: install one of {pinned}"
    )


def cache() -> Path:
    """Return the absolute cache folder, whether or not it is there."""
    return Path(os.environ.get("BALDRO_CACHE") or user_cache_path("baldro_ext")).expanduser().absolute()


def location(gen: Generation) -> Path:
    """Return the absolute folder where the checkout of `gen` belongs, whether or not it is there."""
    return cache() / "open-unlearning" / f"{gen.name}-{gen.commit[:7]}"


def state(gen: Generation) -> State:
    """Inspect the checkout of `gen` without writing; GitError if one is there but git is not."""
    path = location(gen)
    return _inspect(gen, path) if os.path.lexists(path) else State("missing", path)


def checkout(name: str | Generation) -> Path:
    """Return the folder of a verified checkout.

    ValueError if there is no generation of that name, FrameworkMissingError if its checkout is missing,
    modified or at another commit, GitError if git is not installed.
    """
    gen = generation(name) if isinstance(name, str) else name
    found = state(gen)
    if found.kind != "installed":
        raise FrameworkMissingError(explain(gen, found))
    return found.path


def install(
    name: str | Generation, source: str | None = None, notify: Callable[[str], None] = lambda message: None
) -> tuple[Path, bool]:
    """Put the pinned checkout into the cache, unless it is there already.

    `source` is a git URL or local clone (default: `OPEN_UNLEARNING_REPO`, then DEFAULT_SOURCE); `notify`
    receives one line before each step that may take a while. Returns the verified folder and whether
    this call made it. Raises ValueError for an unknown name, FrameworkModifiedError if the folder is not
    the clean pinned commit (it is not touched), SourceError if the source cannot be reached or lacks the
    commit, GitError if git is not installed, FrameworkError if the cache cannot be written.
    """
    gen = generation(name) if isinstance(name, str) else name
    source = source or os.environ.get("OPEN_UNLEARNING_REPO") or DEFAULT_SOURCE
    path = location(gen)
    try:
        # Looked at before locking, so that a finished install also works in a read-only cache.
        if _ready(gen):
            return path, False
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(gen, path, notify):
            if new := not _ready(gen):
                _build(gen, path, source, notify)
    except OSError as error:
        way_out = "Free some space or set BALDRO_CACHE to a folder you can write."
        raise FrameworkError(f"cannot use {path.parent}: {error.strerror or error}\n{way_out}") from error
    return path, new


def explain(gen: Generation, found: State) -> str:
    """Return what is wrong with a checkout that is not `installed` and the commands that mend it."""
    here, command = shlex.quote(str(found.path)), f"baldro framework install {gen.name}"
    if found.kind == "missing":
        return (
            f"open-unlearning {gen.name} ({gen.commit[:7]}) is not installed at {found.path}\n"
            f"Install it with: {command}\n"
            f"From a local clone: OPEN_UNLEARNING_REPO=/path/to/open-unlearning {command}"
        )
    more = len(found.details) - 5
    shown = ", ".join(found.details[:5]) + (f" and {more} more" if more > 0 else "")
    aside = f"Move it aside with: mv {here} {here}.mine\nThen run: {command}"
    if found.kind == "modified":
        drop = f"Or drop the changes with: git -C {here} reset --hard"
        return f"{found.path} is left as it is, for it has changes: {shown}\n{aside}\n{drop}"
    wanted = f"found {shown}, want {gen.commit}"
    return f"{found.path} is left as it is, for it is not {gen.name}: {wanted}\n{aside}"


def _ready(gen: Generation) -> bool:
    found = state(gen)
    if found.kind in ("modified", "wrong commit"):
        raise FrameworkModifiedError(explain(gen, found))
    return found.kind == "installed"


def _locked(gen: Generation, path: Path, notify: Callable[[str], None]) -> AbstractContextManager[object]:
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        notify(f"{gen.name}: another process is installing it; waiting for it to finish")
        return lock.acquire()


def _inspect(gen: Generation, path: Path) -> State:
    if not (path / ".git").exists():
        return State("wrong commit", path, ("no git checkout",))
    head = git(path, "rev-parse", "--verify", "HEAD")
    if head.returncode or head.stdout.strip() != gen.commit:
        return State("wrong commit", path, (complaint(head) if head.returncode else head.stdout.strip(),))
    status = git(path, "status", "--porcelain", "--untracked-files=no")
    changed = [complaint(status)] if status.returncode else [line[3:] for line in status.stdout.splitlines()]
    return State("modified", path, tuple(changed)) if changed else State("installed", path)


def _build(gen: Generation, path: Path, source: str, notify: Callable[[str], None]) -> None:
    for stale in path.parent.glob(f".{path.name}.partial-*"):  # of installs that were killed
        shutil.rmtree(stale, ignore_errors=True)
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    notify(f"{gen.name}: fetching {gen.commit[:7]} from {anonymous(source)}")
    try:
        must(git(path.parent, "init", "--quiet", "--template=", partial.name))
        _fetch(gen, partial, source)
        must(git(partial, "checkout", "--quiet", "--detach", gen.commit))
        found = _inspect(gen, partial)
        if found.kind != "installed":
            what = f"{found.kind}: {', '.join(found.details[:5])}"
            raise FrameworkError(f"git left {gen.name} incomplete in {path.parent} ({what}); try again")
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch(gen: Generation, repository: Path, source: str) -> None:
    # git runs inside `repository`, so a relative path would otherwise point elsewhere.
    local = Path(source).expanduser()
    origin = str(local.absolute()) if local.exists() else source
    fetch = ("fetch", "--quiet", "--no-tags")
    if git(repository, *fetch, "--depth=1", "--", origin, gen.commit).returncode == 0:
        return
    # Some servers hand out branches and tags only.
    everything = ("+refs/heads/*:refs/remotes/source/*", "+refs/tags/*:refs/tags/*")
    full = git(repository, *fetch, "--", origin, *everything)
    if full.returncode:
        why = f"git says: {complaint(full)}\nCheck the network and that the source is right, or"
    elif git(repository, "cat-file", "-e", f"{gen.commit}^{{commit}}").returncode:
        why = f"It is a git repository, but commit {gen.commit} is not in it.\nGive the right source, or"
    else:
        return
    clone = f"OPEN_UNLEARNING_REPO=/path/to/open-unlearning baldro framework install {gen.name}"
    what = f"cannot get open-unlearning {gen.name} ({gen.commit[:7]}) from {anonymous(source)}"
    raise SourceError(f"{what}\n{why} use a local clone: {clone}")
