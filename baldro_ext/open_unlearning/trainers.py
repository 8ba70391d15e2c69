"""The trainers for open-unlearning, based on its `GradDiff`.

Can be imported only with a checkout's `src` folder on `sys.path`, as in its `train.py` and `eval.py`.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from trainer import TRAINER_REGISTRY
from trainer.unlearn.grad_diff import GradDiff

from baldro_ext.mixin import BalDROMixin, Batch
from baldro_ext.weightings import VARIANTS

logger = logging.getLogger(__name__)


class _BalDRO(BalDROMixin, GradDiff):
    """Takes evaluation, retain loss, reference model and DeepSpeed handling from GradDiff."""

    host_arguments: ClassVar[frozenset[str]] = frozenset({"evaluators", "template_args"})
    ref_model: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_empty_forget_set(kwargs.get("train_dataset"))
        super().__init__(*args, **kwargs)
        self.gamma = self.settings.gamma
        self.alpha = self.settings.alpha
        self.retain_loss_type = self.settings.retain_loss_type

    def prepare_model_before(self, model: nn.Module) -> None:
        """Keep the copy of the model that GradDiff uses as reference."""
        if not self.settings.loss.needs_reference:
            logger.info("retain_loss_type=KL keeps a copy of the model in memory; retain_loss_type=NLL needs none.")
        self.ref_model = self._prepare_ref_model(model)

    def reference_log_likelihoods(self, forget_inputs: Batch) -> Tensor:
        """Return `(B,)` log-likelihoods of the answers under GradDiff's reference model, in nats."""
        with torch.no_grad():
            return self.log_likelihoods(self.ref_model, forget_inputs)


def register() -> None:
    """Register a trainer per weighting with the framework, as `trainer.handler`.

    Ours replace any of the same name. Those of other packages never replace the framework's.
    """
    for name in VARIANTS:
        if name in VARIANTS.data or name not in TRAINER_REGISTRY:
            TRAINER_REGISTRY[name] = type(name, (_BalDRO,), {"variant": name, "__module__": __name__})


def _refuse_empty_forget_set(train_dataset: Any) -> None:
    forget = getattr(train_dataset, "forget", None)
    if train_dataset is not None and (forget is None or len(forget) == 0):
        raise ValueError(
            "the forget set is empty, so there is nothing to unlearn: choose a split with samples for data.forget "
            "(forget_split=forget10 for TOFU), and set mode=unlearn"
        )
