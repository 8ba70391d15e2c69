"""Classes by name: those of this package, and those that other installed packages declare as entry points."""

import dataclasses
import importlib.util
import inspect
from collections import UserDict
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from baldro_ext.errors import BaldroError

# The groups of entry points: a class by its name in a configuration.
FORGET_LOSSES = "baldro_ext.forget_losses"
WEIGHTINGS = "baldro_ext.weightings"

T = TypeVar("T")


class ExtensionError(BaldroError):
    """Something that another package declares cannot be used."""


class Registry(UserDict[str, type[T]]):
    """Dataclasses by name. Those of other packages are imported when their name is looked up, and never replace ours.

    Args:
        group: The entry points that belong to it.
        base: What the classes extend.
        own: The classes of this package.

    Raises:
        ExtensionError: On looking up a name whose class cannot be used; the message names its package.
    """

    def __init__(self, group: str, base: type[T], own: Mapping[str, type[T]] | None = None) -> None:
        super().__init__(own)
        self._group = group
        self._base = base

    def __contains__(self, name: object) -> bool:
        return name in self.data or name in entry_points(group=self._group).names

    def __iter__(self) -> Iterator[str]:
        return iter({**self.data, **dict.fromkeys(entry_points(group=self._group).names)})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __missing__(self, name: str) -> type[T]:
        points = tuple(entry_points(group=self._group, name=name))
        if not points:
            raise KeyError(name)
        package = " and ".join(sorted(f"{point.dist.name} {point.dist.version}" for point in points if point.dist))
        if len(points) > 1:
            raise ExtensionError(f"{name} is declared by {package}: uninstall all but one")
        try:
            loaded: type[T] = points[0].load()
        except Exception as error:  # whatever the package raises
            problem = f"cannot be imported ({type(error).__name__}: {error})"
            raise ExtensionError(f"{name}: {points[0].value} of {package} {problem}: repair or uninstall it") from error
        fits = isinstance(loaded, type) and dataclasses.is_dataclass(loaded) and issubclass(loaded, self._base)
        if not fits or inspect.isabstract(loaded):
            kind = f"a dataclass that extends {self._base.__name__} and defines its abstract methods"
            raise ExtensionError(f"{name}: {points[0].value} of {package} is not {kind}: repair or uninstall it")
        return loaded

    def others(self) -> dict[str, type[T] | ExtensionError]:
        """Return the classes of other packages by name, or why one cannot be used; imports these packages."""
        found: dict[str, type[T] | ExtensionError] = {}
        for name in self.keys() - self.data.keys():
            try:
                found[name] = self[name]
            except ExtensionError as error:
                found[name] = error
        return found

    def usable(self) -> dict[str, type[T]]:
        """Return all classes that can be used, by name; imports the other packages."""
        return {**self.data, **{name: found for name, found in self.others().items() if isinstance(found, type)}}


def field_types(of: type) -> dict[str, str]:
    """Return the types of a dataclass's fields by name, as they are written, such as `float | None`."""
    return {field.name: getattr(field.type, "__name__", str(field.type)) for field in dataclasses.fields(of)}


def config_folders() -> list[Path]:
    """Return the folders `configs` in the packages that declare an entry point; imports none of them."""
    points = [point for group in (FORGET_LOSSES, WEIGHTINGS) for point in entry_points(group=group)]
    specs = [importlib.util.find_spec(name) for name in sorted({point.module.partition(".")[0] for point in points})]
    places = [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return [place / "configs" for place in places if (place / "configs").is_dir()]
