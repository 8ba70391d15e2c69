"""Print as JSON what `baldro memory` computes, and what the same step needs with real weights.

Usage: python real_memory.py CHECKOUT.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from baldro_ext.errors import UsageError
from baldro_ext.tools.bench.batch import Batch, build_model, configuration
from baldro_ext.tools.bench.candidates import make_candidates
from baldro_ext.tools.bench.measure import measure as bench
from baldro_ext.tools.memory import Setting, compute, measure

checkout = Path(sys.argv[1])
BATCH = Batch(size=4, length=24, prompt=9)
settings = {
    "plain": (Setting("tiny", BATCH), ("NPO", "SatImp", "BalDRO_DV", "BalDRO_G")),
    "float32": (Setting("tiny", BATCH, dtype=torch.float32), ("NPO", "BalDRO_DV")),
    "adapters": (Setting("tiny", BATCH, lora=2, four_bit=True, checkpointing=True), ("BalDRO_DV scope=dataset",)),
}
pairs = {
    f"{method}, {name}": (compute(method, setting, checkout), measure(method, setting.build("cpu"), setting, checkout))
    for name, (setting, methods) in settings.items()
    for method in methods
}
refused = {}
for method in ("NP0", "BalDRO_DV", "BalDRO_DV_DPO"):
    try:
        compute(method, Setting("tiny", Batch(size=1 if method == "BalDRO_DV" else 2)), checkout)
    except UsageError as error:
        refused[method] = str(error)
with tempfile.TemporaryDirectory() as folder:
    model = build_model(configuration("tiny"), torch.device("cpu"), torch.float32)
    costs, _ = bench(make_candidates(["NPO"], checkout, model, BATCH, Path(folder)), model, batches=1, rounds=1)
print(json.dumps({"pairs": pairs, "refused": refused, "saved": costs["saved_bytes"].to_dict()}))
