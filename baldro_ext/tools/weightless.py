"""Training steps on tensors that have a shape but no content, and what is alive in them."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baldro_ext import compat
from baldro_ext.adversary import Adversary, Weights
from baldro_ext.before import AdaptersOff
from baldro_ext.robust_loss import RobustLoss


def without_values(trainer: Any) -> None:
    """Prepare a BalDRO trainer as `train` does, and let it weight samples by made-up losses, as there are no others.

    The first samples are the hardest, so with scope=dataset the first batch is trained on as a whole.
    """
    if trainer.settings.needs_model_before and compat.has_adapters(trainer.model):
        trainer.ref_model = AdaptersOff(trainer)  # that the adapters are new cannot be checked without content
    else:
        trainer._prepare_model(trainer.model)
    adversary, size = trainer.adversary, len(trainer.train_dataset)
    index, falling = torch.arange(size), _falling(torch.empty(size))
    if trainer.settings.needs_precomputed_reference:
        adversary.state.reference = torch.zeros(size, dtype=torch.float64)
    numbers = torch.stack([falling, falling, falling], 1)
    adversary.score(adversary.state, index, torch.ones(size, dtype=torch.bool), numbers)
    trainer._robust_loss = RobustLoss(trainer.settings.loss, _Valueless(adversary))


class _Valueless(Adversary):
    """An adversary that sees how many losses there are, and takes them for falling numbers."""

    def __init__(self, adversary: Adversary) -> None:
        vars(self).update(vars(adversary))

    def weights(
        self, index: Tensor, labeled: Tensor, losses: Tensor, hardness: Tensor, rows: Tensor | None = None
    ) -> Weights:
        return super().weights(index, labeled, _falling(losses), _falling(hardness), rows)

    def token_weights(self, index: Tensor, mask: Tensor, losses: Tensor, hardness: Tensor) -> Weights:
        return super().token_weights(index, mask, _falling(losses), _falling(hardness))


def _falling(numbers: Tensor) -> Tensor:
    return -torch.arange(numbers.numel()).double().view(numbers.shape)


class MasksKnown(TorchFunctionMode):
    """Selects elements of a tensor without content by a mask that has content."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].dtype == torch.bool:
            args = (args[0], args[1].nonzero(as_tuple=True))
        return func(*args, **(kwargs or {}))


class Peak(TorchDispatchMode):
    """Counts the bytes of all new tensors that are alive, and remembers the most.

    Attributes:
        most: At the peak, the bytes of logits (`True`), which are as wide as the vocabulary, and of the rest (`False`).
    """

    def __init__(self, model: Any, existing: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._vocabulary = model.config.vocab_size
        self._weights = {parameter.shape for parameter in model.parameters()}
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in existing)
        self._now, self.most = {False: 0, True: 0}, {False: 0, True: 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                logits = self._vocabulary in tensor.shape and tensor.shape not in self._weights
                self._count(logits, storage.nbytes())
                weakref.finalize(storage, self._count, logits, -storage.nbytes())
        if sum(self._now.values()) > sum(self.most.values()):
            self.most = dict(self._now)
        return result

    def _count(self, logits: bool, size: int) -> None:
        self._now[logits] += size
