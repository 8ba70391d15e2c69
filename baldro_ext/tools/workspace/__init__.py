"""An offline working folder in which every framework command can be typed.

    from baldro_ext.tools.workspace import make_model, make_tofu, rows_to_recite

    make_tofu("demo", authors=20, questions=10)
    make_model("demo", "target", rows=rows_to_recite("demo", "full"), hidden=128)

writes made-up data under the names that the framework loads (`locuslab/TOFU`), and a small Llama that recites
it under `demo/models/target`. Commands typed in `demo` then need no network: a dataset or model name is
taken for a local folder first. The data functions need nothing but the standard library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from baldro_ext.tools.workspace.datasets import make_arc_easy, make_muse, make_tofu, make_wmdp

if TYPE_CHECKING:
    from baldro_ext.tools.workspace.model import make_model as make_model
    from baldro_ext.tools.workspace.recitation import Training as Training
    from baldro_ext.tools.workspace.recitation import recite as recite
    from baldro_ext.tools.workspace.recitation import rows_to_recite as rows_to_recite
    from baldro_ext.tools.workspace.recitation import texts_to_recite as texts_to_recite

# These need torch and transformers, so they are imported on first use.
_HOME = {
    "Training": "baldro_ext.tools.workspace.recitation",
    "make_model": "baldro_ext.tools.workspace.model",
    "recite": "baldro_ext.tools.workspace.recitation",
    "rows_to_recite": "baldro_ext.tools.workspace.recitation",
    "texts_to_recite": "baldro_ext.tools.workspace.recitation",
}
__all__ = [
    "Training",
    "make_arc_easy",
    "make_model",
    "make_muse",
    "make_tofu",
    "make_wmdp",
    "recite",
    "rows_to_recite",
    "texts_to_recite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
