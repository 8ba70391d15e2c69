"""A long run does not need more memory with each step, in the trainer or in a loader worker."""

import gc
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback

from baldro_ext import BalDROTrainer

from .tiny import arguments, llama, pairs

EARLY, STEPS = 50, 250


def objects() -> int:
    """Return the number of tensors and containers in this process; torch's cache of shared memory is neither."""
    gc.collect()
    return sum(type(one) in (torch.Tensor, dict, list, tuple) for one in gc.get_objects())


class Watched(Dataset[Any]):
    """Forget-retain pairs that count the objects of the process that reads them."""

    def __init__(self) -> None:
        self._pairs, self._read = pairs(2 * STEPS), 0
        self.forget = self._pairs.forget
        self.objects = torch.zeros(2, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self._read += 1
        if self._read in (2 * EARLY, 2 * STEPS):
            self.objects[self._read // (2 * STEPS)] = objects()
        return self._pairs[index]


class Watch(TrainerCallback):
    def __init__(self) -> None:
        self.objects: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in (EARLY, STEPS):
            self.objects.append(objects())


def test_nothing_is_kept_from_step_to_step_where_nothing_is_logged(tmp_path: Path) -> None:
    loading = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    given = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "logging_strategy": "no", **loading}
    worker, trainer = Watched(), Watch()
    BalDROTrainer(llama(), arguments(tmp_path, **given), train_dataset=worker, callbacks=[trainer]).train()
    for kind, (early, late) in (("trainer", trainer.objects), ("worker", worker.objects.tolist())):
        assert early > 0
        assert late - early < (STEPS - EARLY) / 2, f"objects kept in the {kind}"
