"""The settings: what is accepted, and what every refusal says."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from baldro_ext import DonskerVaradhan, TopGroup
from baldro_ext.config import Settings
from baldro_ext.losses import FORGET_LOSSES, NPO, SatImp, SimNPO


def test_names_become_parts() -> None:
    settings = Settings.parse(
        "BalDRO_DV", {"base": "SimNPO", "beta": 2.5, "delta": 0.1, "dv_radius": 0.5, "gamma": 0.125}
    )
    assert settings.loss == SimNPO(beta=2.5, delta=0.1)
    assert settings.weighting == DonskerVaradhan(radius=0.5)
    assert (settings.gamma, settings.alpha, settings.retain_loss_type) == (0.125, 1.0, "NLL")


def test_defaults_are_the_base_losses_own() -> None:
    assert Settings.parse("BalDRO_G", {}).loss == NPO(beta=0.1)
    assert Settings.parse("BalDRO_G", {"base": "SatImp"}).loss == SatImp(beta1=5.0, beta2=1.0)
    assert Settings.parse("BalDRO_G", {}).weighting == TopGroup(0.5)
    assert Settings.parse("BalDRO_DV", {}).weighting == DonskerVaradhan(beta=2.0)


def test_null_means_not_set() -> None:
    for neither in ({}, {"dv_beta": None, "dv_radius": None}):
        assert Settings.parse("BalDRO_DV", neither).weighting == DonskerVaradhan(beta=2.0)
    assert Settings.parse("BalDRO_DV", {"dv_beta": None, "dv_radius": 0.5}).weighting == DonskerVaradhan(radius=0.5)


def test_numbers_may_come_as_text() -> None:
    assert Settings.parse("BalDRO_DV", {"dv_beta": "1e-1", "alpha": "2"}).weighting == DonskerVaradhan(beta=0.1)


@pytest.mark.parametrize("infinity", [math.inf, ".inf", ".Inf", "inf"])
def test_infinity_may_come_from_yaml_or_a_command_line(infinity: Any) -> None:
    assert Settings.parse("BalDRO_DV", {"dv_beta": infinity}).weighting.is_mean


@pytest.mark.parametrize(
    ("variant", "arguments", "message"),
    [
        ("BalDRO_G", {"base": "NP0"}, f"base='NP0' is no known forget loss: there are {', '.join(sorted(FORGET_LOSSES))}; did you mean NPO?"),
        ("BalDRO_DV", {"dv_beta": 2.0, "dv_radius": 0.5}, "and both are: set dv_beta (a temperature in units of the loss, 2.0 in the paper) or dv_radius"),
        ("BalDRO_DV", {"dv_beta": 0}, "dv_beta=0 has no worst case: use a positive temperature (2.0 in the paper) or .inf"),
        ("BalDRO_DV", {"dv_radius": -1.0}, "dv_radius=-1.0 is no KL divergence"),
        ("BalDRO_DV", {"dv_beta": "two"}, "dv_beta='two' is no number: write it as 2.0, 1e-1 or .inf"),
        ("BalDRO_DV", {"dv_beta": True}, "dv_beta=True is no number"),
        ("BalDRO_G", {"top_fraction": 0}, "top_fraction=0 is no share of the samples: use a number in (0, 1]"),
        ("BalDRO_G", {"top_fraction": 1.5}, "top_fraction=1.5 is no share of the samples"),
        ("BalDRO_G", {"group_size": "ceil"}, "group_size='ceil' is unknown: use 'exact' or 'floor'"),
        ("BalDRO_G", {"dv_beta": 1.0}, "dv_beta is a setting of BalDRO_DV, not of BalDRO_G, which takes top_fraction or group_size"),
        ("BalDRO_G", {"top_fracton": 0.5}, "top_fracton is no setting of BalDRO_G with base=NPO: there are"),
        ("BalDRO_G", {"top_fracton": 0.5}, "did you mean top_fraction?"),
        ("BalDRO_G", {"steering_coeff": 2}, "steering_coeff is no setting of BalDRO_G"),
        ("BalDRO_G", {"base": "SatImp", "delta": 0.1}, "delta is an argument of SimNPO, not of base=SatImp, which takes beta1, beta2"),
        ("BalDRO_G", {"retain_loss_type": "EMBED_DIFF"}, "retain_loss_type='EMBED_DIFF' is not supported: use NLL or KL"),
        ("BalDRO_G", {"hardness": "length"}, "hardness='length' is not supported: use loss or nll"),
        ("BalDRO_G", {"retain_reduction": "mean"}, "retain_reduction='mean' is not supported: use token_mean or sequence_sum"),
        ("BalDRO_G", {"retain_reduction": "sequence_sum", "retain_loss_type": "KL"}, "retain_reduction='sequence_sum' sums log-likelihoods"),
        ("BalDRO_DV", {"dv_beta": 1.0, "retain_batch": "matched"}, "retain_batch='matched' cuts the retain batch to the size of the forget group"),
        ("BalDRO_G", {"base": "GradDiff", "delta": 0.1}, "delta is an argument of SimNPO, not of base=GradDiff, which takes none of its own"),
        ("BalDRO_G", {"unit": "token"}, "unit='token' needs a loss that is a mean over tokens (SatImp, GradDiff"),
        ("BalDRO_G", {"scope": "epoch"}, "scope='epoch' is not supported: use batch or dataset"),
        ("BalDRO_G", {"reference": "none"}, "reference='none' is not supported: use precomputed or live"),
        ("BalDRO_G", {"base": "SatImp", "unit": "token", "scope": "dataset"}, "scope='dataset' keeps one number per sample"),
        ("BalDRO_G", {"retain_batch": "matched", "scope": "dataset"}, "with scope='dataset' a batch may hold none of the group"),
        ("BalDRO_G", {"gamma": -1.0}, "gamma=-1.0 is no weight of a loss term: use a finite number >= 0"),
        ("BalDRO_G", {"alpha": math.nan}, "alpha=nan is no weight"),
        ("BalDRO_G", {"beta": 0.0}, "beta=0.0 does not suit NPO: use a positive number"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_a_way_out(variant: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings.parse(variant, arguments)
