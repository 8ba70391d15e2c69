"""Compose the configuration of every command read from standard input, one a line, and check BalDRO's settings in it.

Usage: python compose_commands.py CHECKOUT. Prints a line per configuration; fails at the first that does not compose.
"""

import itertools
import shlex
import sys
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import baldro_ext
from baldro_ext.config import Settings
from baldro_ext.weightings import VARIANTS

checkout = sys.argv[1]
sys.path.insert(0, f"{checkout}/src")
baldro_ext.register()


def jobs(words: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of each job of a command: one, or with `-m` all of a sweep."""
    words = [word for word in words if not word.startswith("-")]
    choices = [
        list(override.sweep_string_iterator()) if override.is_sweep_override() else [None]
        for override in OverridesParser.create().parse_overrides(words)
    ]
    for chosen in itertools.product(*choices):
        yield [
            word if choice is None else f"{word.split('=')[0]}={choice}"
            for word, choice in zip(words, chosen, strict=True)
        ]


with initialize_config_dir(f"{checkout}/configs", version_base=None):
    for line in sys.stdin:
        command = shlex.split(line)
        script = next(place for place, word in enumerate(command) if word.endswith(("src/train.py", "src/eval.py")))
        name = command[script].removesuffix(".py").removeprefix("src/")
        arguments = command[script + 1 :]
        if "..." in arguments:  # any command of the framework
            place = arguments.index("...")
            arguments[place : place + 1] = ["trainer=BalDRO_DV", "experiment=unlearn/tofu"]
        for argument in list(arguments):
            if argument.startswith("--config-name="):
                name = argument.removeprefix("--config-name=")
            if argument == "--info":
                arguments = arguments[: arguments.index(argument)]
        for overrides in jobs(arguments):
            config = compose(name, overrides)
            trainer = config.get("trainer") or {}
            if trainer.get("handler") in VARIANTS:
                Settings.parse(trainer.handler, OmegaConf.to_container(trainer.method_args, resolve=True))
            print("composed", name, *overrides)
