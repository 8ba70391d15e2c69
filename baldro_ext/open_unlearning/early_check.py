"""A Hydra callback that checks the method's settings before model and data are loaded and a folder is created."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from baldro_ext.errors import BaldroError


class EarlyCheck(Callback):
    """Ends a single run with invalid settings; in a sweep, each job's trainer checks its own."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print what is wrong and exit with status 1; Hydra would turn an exception into a warning."""
        from baldro_ext.config import Settings  # imports torch, so only when a run starts
        from baldro_ext.weightings import VARIANTS

        if config.trainer.handler not in VARIANTS:
            return
        try:
            method: Any = OmegaConf.to_container(config.trainer.method_args, resolve=True)
            Settings.parse(config.trainer.handler, method)
        except (ValueError, BaldroError) as error:
            sys.exit(f"Error in trainer.method_args: {error}")
