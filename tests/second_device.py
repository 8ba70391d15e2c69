"""A second device on a machine that has none: the CPU under another name, with the device rules of PyTorch.

Tensors of `other:0` are CPU tensors in a wrapper, so that every operator works, but mixing them with CPU tensors fails as
it does on a GPU, and so does `.numpy()`. Without float64 it is like Apple's MPS. It counts what makes the host wait for a
real device: copies to the CPU, single numbers, and results whose size depends on data.

It uses PyTorch's interface for backends written in Python (`torch.utils.backend_registration`, torch 2.13 and later).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

NAME = "other"
DEVICE = NAME  # of which there is one

waits: Counter[str] = Counter()
"""Operators that made the host wait for the device, by name."""
_has_float64 = True
_library: torch.library.Library | None = None

_COPIES = {"aten::_to_copy", "aten::copy_", "aten::to"}
_SIZED_BY_DATA = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::_local_scalar_dense", "aten::equal"}
_INDEXING = ("aten::index", "aten::_index_put_impl_", "aten::_unsafe_index")


class OtherTensor(torch.Tensor):
    """A tensor of the second device."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> OtherTensor:
        if raw.dtype == torch.float64 and not _has_float64:
            raise TypeError(f"Cannot convert a tensor to float64: {NAME} does not support it. Use float32 instead.")
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        made.raw = raw
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        waits["tolist"] += 1
        return self.raw.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OtherTensor({self.raw})"

    def __format__(self, spec: str) -> str:
        return format(self.raw.item() if self.dim() == 0 else self.raw, spec)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Carry an operator out on the CPU, by the rules of a device of its own."""
    flat = pytree.tree_leaves((args, kwargs))
    ours = [value for value in flat if isinstance(value, OtherTensor)]
    name = func._schema.name
    if ours and name not in _COPIES:
        _refuse_mixing(name, [value for value in flat if isinstance(value, torch.Tensor)])
    targets = [value.type == NAME for value in flat if isinstance(value, torch.device)]
    _count_waits(name, ours, flat, leaves=bool(targets) and not targets[0])

    def bare(value: Any) -> Any:
        if isinstance(value, OtherTensor):
            return value.raw
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value

    args_of_cpu, kwargs_of_cpu = pytree.tree_map(bare, (args, kwargs))
    result = func(*args_of_cpu, **kwargs_of_cpu)
    if name == "aten::copy_":
        return args[0]
    if not (targets[0] if targets else ours):
        return result
    known = {id(value.raw): value for value in ours}  # what works in place returns what it was given

    def wrapped(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and not isinstance(value, OtherTensor):
            return known[id(value)] if id(value) in known else OtherTensor(value)
        return value

    return pytree.tree_map(wrapped, result)


def _refuse_mixing(name: str, tensors: list[torch.Tensor]) -> None:
    for place, value in enumerate(tensors):
        # As everywhere in PyTorch, numbers of no dimension may come from the CPU, and so may indices.
        is_index = place > 0 and name.startswith(_INDEXING) and value.dtype in (torch.int64, torch.bool)
        if not isinstance(value, OtherTensor) and value.dim() > 0 and not is_index:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{NAME}:0 and cpu! (when checking {name})"
            )


def _count_waits(name: str, ours: list[OtherTensor], flat: list[Any], *, leaves: bool) -> None:
    if not ours:
        return
    by_mask = name.startswith(_INDEXING) and any(
        isinstance(value, torch.Tensor) and value.dtype == torch.bool for value in flat[1:]
    )
    lands_on_cpu = name == "aten::copy_" and not isinstance(flat[0], OtherTensor)
    if name in _SIZED_BY_DATA or by_mask or (name in _COPIES and leaves) or lands_on_cpu:
        waits[name] += 1


class _Backend:
    """What torch asks of a device's module, and that nobody touches a device that is not in use."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def _lazy_init(self) -> None: ...

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None: ...

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.zeros(8, dtype=torch.uint8)

    def set_rng_state(self, state: Any, device: Any = None) -> None: ...

    def manual_seed_all(self, seed: int) -> None: ...

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_autocast_enabled(self) -> bool:
        return False

    def empty_cache(self) -> None: ...

    def synchronize(self, device: Any = None) -> None: ...


def install(*, float64: bool = True) -> None:
    """Make the device known to PyTorch in this process, for good."""
    global _has_float64, _library
    _has_float64 = float64
    if _library is not None:
        return
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    _library = torch.library.Library("_", "IMPL")
    _library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    # torch.tensor(..., device=) builds its tensor below the dispatcher.
    build = torch.tensor
    torch.tensor = lambda *a, device=None, **k: (  # type: ignore[assignment, misc]
        build(*a, **k).to(device) if _is_ours(device) else build(*a, device=device, **k)
    )


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def move(trainer: Any) -> Any:
    """Let a Trainer that was made for the CPU train on the second device; return it."""
    device = torch.device(NAME, 0)
    setattr(trainer.args, "__cached__setup_devices", device)  # what `args.device` returns
    trainer.accelerator.state.device = device
    trainer.model.to(device)
    trainer.model.tie_weights()  # a tensor in a wrapper is not moved in place
    return trainer


@contextmanager
def counting_waits() -> Iterator[Counter[str]]:
    """Count what makes the host wait in the meantime."""
    waits.clear()
    yield waits
