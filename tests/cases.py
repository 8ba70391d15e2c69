"""The kinds of method: what differs in the way of a sample through the code, by name."""

from typing import Any

RADIUS = {"dv_radius": 0.5}
RMU = {"module_regex": r"model\.layers\.0", "trainable_params_regex": [".*"], "retain_loss_type": "EMBED_DIFF"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "DV": ("BalDRO_DV", {}),
    "DV by radius": ("BalDRO_DV", RADIUS),
    "DV over the set": ("BalDRO_DV", {**RADIUS, "scope": "dataset"}),
    "DV with a live reference": ("BalDRO_DV", {"reference": "live"}),
    "DV with KL": ("BalDRO_DV", {"retain_loss_type": "KL"}),
    "DV within a budget": ("BalDRO_DV", {"retain_budget": 0.1}),
    "DV of SimNPO over the set": ("BalDRO_DV", {"base": "SimNPO", **RADIUS, "scope": "dataset"}),
    "DV of SatImp": ("BalDRO_DV", {"base": "SatImp"}),
    "DV of GradDiff over tokens": ("BalDRO_DV", {"base": "GradDiff", "unit": "token"}),
    "DV as released": ("BalDRO_DV", {"dv_beta": -1.0, "retain_reduction": "sequence_sum"}),
    "chi-square": ("BalDRO_Chi2", {}),
    "G": ("BalDRO_G", {}),
    "G over the set": ("BalDRO_G", {"scope": "dataset"}),
    "G by likelihood": ("BalDRO_G", {"hardness": "nll", "top_fraction": 0.7}),
    "G with a matched retain batch": ("BalDRO_G", {"retain_batch": "matched"}),
    "G of SimNPO over the set": ("BalDRO_G", {"base": "SimNPO", "scope": "dataset", "top_fraction": 0.3}),
    "G of SatImp as released": (
        "BalDRO_G",
        {"base": "SatImp", "group_size": "floor", "unit": "token", "retain_batch": "matched"},
    ),
    "G of GradDiff": ("BalDRO_G", {"base": "GradDiff"}),
    "DV of UNDIAL": ("BalDRO_DV", {"base": "UNDIAL"}),
    "G of RMU over the set": ("BalDRO_G", {"base": "RMU", "scope": "dataset", **RMU}),
}
