"""BalDRO: distributionally robust unlearning for open-unlearning and plain Hugging Face training.

Names are imported on first use: the Hydra plugin imports this package in every Hydra application, which should not
cost an import of torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baldro_ext.data import ForgetRetainCollator as ForgetRetainCollator
    from baldro_ext.data import ForgetRetainDataset as ForgetRetainDataset
    from baldro_ext.encoding import encode_answers as encode_answers
    from baldro_ext.open_unlearning.registration import register as register
    from baldro_ext.trainer import BalDROTrainer as BalDROTrainer
    from baldro_ext.weightings import ChiSquare as ChiSquare
    from baldro_ext.weightings import DonskerVaradhan as DonskerVaradhan
    from baldro_ext.weightings import TopGroup as TopGroup

_HOME = {
    "BalDROTrainer": "baldro_ext.trainer",
    "ChiSquare": "baldro_ext.weightings",
    "DonskerVaradhan": "baldro_ext.weightings",
    "ForgetRetainCollator": "baldro_ext.data",
    "ForgetRetainDataset": "baldro_ext.data",
    "TopGroup": "baldro_ext.weightings",
    "encode_answers": "baldro_ext.encoding",
    "register": "baldro_ext.open_unlearning.registration",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'baldro_ext' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
