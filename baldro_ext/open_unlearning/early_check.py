"""Checks of the command line and the method's settings, before model and data are loaded and a folder is created."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from baldro_ext.errors import BaldroError
from baldro_ext.suggest import known

_CHOICE = re.compile(r"\+{0,2}([\w/]+)=([\w./-]+(?:,[\w./-]+)*)")
_SETTING = re.compile(r"\+{0,2}trainer\.method_args\.(\w+)[.=].*")
# With these, or hydra.searchpath in a main configuration, Hydra may find more configurations than are in the folders
# given to `refuse_unknown_choices`.
_OTHER_PLACES = re.compile(r"-c|--config|\+*hydra\.searchpath")


class EarlyCheck(Callback):
    """Ends a single run with invalid settings; in a sweep, each job's trainer checks its own."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print what is wrong and exit with status 1; Hydra would turn an exception into a warning."""
        import torch  # slow, so only when a run starts

        from baldro_ext.arguments import refuse_one_sample
        from baldro_ext.config import Settings
        from baldro_ext.weightings import VARIANTS

        if (variant := config.trainer.handler) not in VARIANTS:
            return
        try:
            method: Any = OmegaConf.to_container(config.trainer.method_args, resolve=True)
            devices = int(os.environ.get("WORLD_SIZE", max(1, torch.cuda.device_count())))
            batch = config.trainer.args.get("per_device_train_batch_size", 8)
            refuse_one_sample(Settings.parse(variant, method), devices * batch)
        except (ValueError, BaldroError) as error:
            sys.exit(f"Error in the settings: {error}")


class AdapterCheck(Callback):
    """Ends a single run whose adapters cannot work; in a sweep, each job's model handler checks its own."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print what is wrong and exit with status 1."""
        from baldro_ext.open_unlearning import adapters

        settings: Any = OmegaConf.to_container(config.peft, resolve=True)
        try:
            adapters.check(settings, trainer=OmegaConf.select(config, "trainer.handler"))
        except ValueError as error:
            sys.exit(f"Error in peft: {error}")


def refuse_unknown_choices(words: Sequence[str], folders: Sequence[Path]) -> None:
    """Exit with status 1 if a choice such as `trainer=NAME` is in none of the folders of configurations.

    Hydra's own message, a list without the closest name, would come while it composes, when no plugin can change it.

    Args:
        words: The arguments of the command line.
        folders: The folders of the configurations.
    """
    if any(map(_OTHER_PLACES.match, words)) or any(
        "searchpath" in file.read_text(errors="replace") for folder in folders for file in folder.glob("*.yaml")
    ):
        return
    for group, names in (match.groups() for match in map(_CHOICE.fullmatch, words) if match):
        for name in names.split(","):
            beside = re.sub(r"[^/]+", "*", name) + ".yaml"
            groups = [folder / group for folder in folders]
            options = {str(file.relative_to(at).with_suffix("")) for at in groups for file in at.glob(beside)}
            if options and name.removesuffix(".yaml") not in {*options, "null"}:
                sys.exit(f"Error: {group}={name} is unknown: {known(name, options)}")


def refuse_unknown_settings(words: Sequence[str], folders: Sequence[Path]) -> None:
    """Exit with status 1 if a word such as `trainer.method_args.dv_bta=2` sets what no method has.

    Hydra would only say that the key is not in the configuration and advise to add it.

    Args:
        words: The arguments of the command line.
        folders: The folders of configurations whose trainers are BalDRO's.
    """
    from baldro_ext.config import all_settings

    chosen = [name for word in words if word.startswith("trainer=") for name in word[len("trainer=") :].split(",")]
    if not chosen or any(not any((at / f"trainer/{name}.yaml").is_file() for at in folders) for name in chosen):
        return
    for key in (match[1] for match in map(_SETTING.fullmatch, words) if match):
        if key not in (settings := all_settings()):
            sys.exit(f"Error: trainer.method_args.{key} is no setting of BalDRO: {known(key, settings)}")
