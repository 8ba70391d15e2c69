"""Numbers per forget sample that outlive a batch: the reference likelihood, the latest loss.

Every rank holds the same ledger. It is kept beside each checkpoint, because a resumed run can compute
neither again: by then the model is no longer the reference.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from baldro_ext.errors import BaldroError

FILE_NAME = "baldro_ledger.safetensors"
_FORMAT = "1"


class LedgerError(BaldroError):
    """A ledger is missing, damaged or of another run; the message says what to do."""


@dataclass
class Ledger:
    """What is known of each of n forget samples, by index, on the CPU.

    Attributes:
        losses: `(n,)` float64, the latest forget loss; not a number while unknown, and for samples
            without an answer.
        hardness: `(n,)` float64, what the worst case is chosen by; likewise.
        visited: `(n,)` bool, whether the sample was trained on in this epoch.
        reference: `(n,)` float64 log-likelihoods before unlearning in nats, or `None` if not needed.
    """

    losses: Tensor
    hardness: Tensor
    visited: Tensor
    reference: Tensor | None = None

    @classmethod
    def blank(cls, size: int) -> Ledger:
        """Return a ledger of `size` samples of which nothing is known."""
        unknown = torch.full((size,), torch.nan, dtype=torch.float64)
        return cls(unknown, unknown.clone(), torch.zeros(size, dtype=torch.bool))

    def record(self, indices: Tensor, losses: Tensor, hardness: Tensor) -> None:
        """Enter the latest numbers of some samples: `(m,)` int64, and `(m,)` twice."""
        self.losses[indices] = losses.to(self.losses)
        self.hardness[indices] = hardness.to(self.hardness)

    def visit(self, indices: Tensor) -> Tensor:
        """Mark samples `(m,)` as trained on; return `(m,)` bool, false for a repetition in this epoch.

        Data-parallel loaders fill up the last batch of an epoch with samples from its start.
        """
        fresh = torch.zeros(len(indices), dtype=torch.bool)
        for position, index in enumerate(indices.tolist()):
            fresh[position] = not self.visited[index]
            self.visited[index] = True
        return fresh

    @property
    def known(self) -> Tensor:
        """`(n,)` bool: the samples with a loss."""
        return self.losses.isfinite()

    def save(self, folder: Path, step: int, fingerprint: str, draw: Tensor | None = None) -> None:
        """Write the ledger into a checkpoint folder, whole or not at all.

        Args:
            folder: The checkpoint.
            step: Its optimizer step.
            fingerprint: Of model, tokenizer, dataset and template, as `fingerprint` gives it.
            draw: Random state, uint8, from which the next batch is to be drawn, if it was fetched already.
        """
        tensors = {"losses": self.losses, "hardness": self.hardness, "visited": self.visited.to(torch.uint8)}
        if self.reference is not None:
            tensors["reference"] = self.reference
        if draw is not None:
            tensors["draw"] = draw
        metadata = {"format": _FORMAT, "step": str(step), "fingerprint": fingerprint}
        partial = folder / f".{FILE_NAME}.partial"
        save_file(tensors, partial, metadata=metadata)
        os.replace(partial, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path, step: int, fingerprint: str) -> tuple[Ledger, Tensor | None]:
        """Read the ledger of a checkpoint, and the random state of its next batch; the arguments are `save`'s.

        Raises:
            LedgerError: The file is missing, damaged, or belongs to another step or another run.
        """
        path = folder / FILE_NAME
        way_out = (
            "Resume from another checkpoint whose ledger is intact, or start anew from the model before unlearning "
            "(without resume_from_checkpoint)."
        )
        if not path.is_file():
            raise LedgerError(
                f"{folder} has no {FILE_NAME}, so its reference likelihoods are lost: the model of a checkpoint is no "
                f"longer the reference. {way_out}"
            )
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, Any] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise LedgerError(f"{path} is damaged ({error}). {way_out}") from None
        found = (metadata.get("format"), metadata.get("step"), metadata.get("fingerprint"))
        for what, wanted, have in zip(
            ("format", "optimizer step", "model, tokenizer, dataset or template"),
            (_FORMAT, str(step), fingerprint),
            found,
            strict=True,
        ):
            if wanted != have:
                raise LedgerError(f"{path} is of another {what}: it says {have}, this run {wanted}. {way_out}")
        draw = tensors.pop("draw", None)
        return cls(visited=tensors.pop("visited").bool(), **tensors), draw


def fingerprint(config: dict[str, Any], shapes: dict[str, list[int]], samples_digest: str) -> str:
    """Identify what the numbers of a ledger depend on.

    Args:
        config: The model's configuration; where it was loaded from and by which release do not count.
        shapes: Its parameters' shapes by name.
        samples_digest: Of the tokenised forget samples, which covers dataset, tokenizer and template.
    """
    volatile = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures"}
    kept = {key: value for key, value in config.items() if key not in volatile and not key.startswith("_")}
    text = json.dumps([kept, shapes, samples_digest], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
