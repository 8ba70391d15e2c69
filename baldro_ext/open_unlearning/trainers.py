"""The trainers for open-unlearning, based on its `GradDiff`.

Can be imported only with a checkout's `src` folder on `sys.path`, as in its `train.py` and `eval.py`.
"""

import logging
from typing import Any, ClassVar

from torch import nn
from trainer import TRAINER_REGISTRY
from trainer.unlearn.grad_diff import GradDiff

from baldro_ext.mixin import BalDROMixin
from baldro_ext.weightings import VARIANTS

logger = logging.getLogger(__name__)


class _BalDRO(BalDROMixin, GradDiff):
    """Takes evaluation, retain loss, reference model and DeepSpeed handling from GradDiff."""

    host_arguments: ClassVar[frozenset[str]] = frozenset({"evaluators", "template_args"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gamma = self.settings.gamma
        self.alpha = self.settings.alpha
        self.retain_loss_type = self.settings.retain_loss_type

    def copy_of(self, model: nn.Module) -> Any:
        """Return the frozen copy of the model that GradDiff uses as reference."""
        logger.info("Keeping a copy of the model in memory. Adapters (+peft=lora) need none.")
        return self._prepare_ref_model(model)


def register() -> None:
    """Register a trainer per weighting with the framework, as `trainer.handler`.

    Ours replace any of the same name. Those of other packages never replace the framework's.
    """
    for name in VARIANTS:
        if name in VARIANTS.data or name not in TRAINER_REGISTRY:
            TRAINER_REGISTRY[name] = type(name, (_BalDRO,), {"variant": name, "__module__": __name__})
