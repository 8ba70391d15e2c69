"""The settings: what is accepted, and what every refusal says."""

import math
import re
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from baldro_ext import ChiSquare, DonskerVaradhan, TopGroup
from baldro_ext.config import Settings
from baldro_ext.losses import FORGET_LOSSES, NPO, SatImp, SimNPO
from baldro_ext.registry import field_types


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
    assert Settings.parse("BalDRO_Chi2", {}).weighting == ChiSquare(0.5)


def test_a_model_that_no_step_reads_is_not_kept() -> None:
    for kind in ("KL", "NLL"):
        for alpha in (0.0, 1.0):
            settings = Settings.parse("BalDRO_DV", {"base": "NPO", "retain_loss_type": kind, "alpha": alpha})
            assert settings.needs_model_before == (kind == "KL" and alpha > 0)
    assert Settings.parse("BalDRO_DV", {"reference": "live", "alpha": 0.0}).needs_model_before


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
    ("variant", "arguments", "named"),
    [
        ("BalDRO-DV", {}, ["variant='BalDRO-DV'", "did you mean BalDRO_DV?"]),
        ("BalDRO_G", {"base": "NP0"}, ["base='NP0'", ", ".join(sorted(FORGET_LOSSES)), "did you mean NPO?"]),
        ("BalDRO_DV", {"dv_beta": 2.0, "dv_radius": 0.5}, ["both are", "dv_beta", "dv_radius"]),
        ("BalDRO_DV", {"dv_beta": 0}, ["dv_beta=0", "positive", "2.0", ".inf"]),
        ("BalDRO_DV", {"dv_radius": -1.0}, ["dv_radius=-1.0", ">= 0"]),
        ("BalDRO_DV", {"dv_beta": "two"}, ["dv_beta='two'", "2.0, 1e-1 or .inf"]),
        ("BalDRO_DV", {"dv_beta": True}, ["dv_beta=True"]),
        ("BalDRO_Chi2", {"chi2_radius": -1.0}, ["chi2_radius=-1.0", ">= 0", "such as 0.5"]),
        ("BalDRO_Chi2", {"dv_radius": 1.0}, ["setting of BalDRO_DV", "BalDRO_Chi2", "chi2_radius"]),
        ("BalDRO_G", {"top_fraction": 0}, ["top_fraction=0", "(0, 1]"]),
        ("BalDRO_G", {"top_fraction": 1.5}, ["top_fraction=1.5"]),
        ("BalDRO_G", {"group_size": "ceil"}, ["group_size='ceil'", "'exact' or 'floor'"]),
        ("BalDRO_G", {"dv_beta": 1.0}, ["dv_beta", "BalDRO_DV", "BalDRO_G", "top_fraction or group_size"]),
        ("BalDRO_G", {"top_fracton": 0.5}, ["top_fracton", "BalDRO_G with base=NPO", "did you mean top_fraction?"]),
        ("BalDRO_G", {"steering_coeff": 2}, ["steering_coeff", "RMU", "base=NPO"]),
        ("BalDRO_G", {"base": "SatImp", "delta": 0.1}, ["delta", "SimNPO", "base=SatImp", "beta1, beta2"]),
        ("BalDRO_G", {"base": "GradDiff", "delta": 0.1}, ["delta", "SimNPO", "base=GradDiff", "none of its own"]),
        ("BalDRO_G", {"retain_loss_type": "EMBED_DIFF"}, ["retain_loss_type='EMBED_DIFF'", "NLL or KL"]),
        ("BalDRO_G", {"hardness": "length"}, ["hardness='length'", "loss or nll"]),
        ("BalDRO_G", {"retain_reduction": "mean"}, ["retain_reduction='mean'", "token_mean or sequence_sum"]),
        ("BalDRO_G", {"scope": "epoch"}, ["scope='epoch'", "batch or dataset"]),
        ("BalDRO_G", {"reference": "none"}, ["reference='none'", "precomputed or live"]),
        ("BalDRO_G", {"retain_reduction": "sequence_sum", "retain_loss_type": "KL"}, ["retain_reduction='sequence_sum'", "retain_loss_type=KL", "use retain_loss_type=NLL or retain_reduction=token_mean"]),
        ("BalDRO_DV", {"dv_beta": 1.0, "retain_batch": "matched"}, ["retain_batch='matched'", "BalDRO_DV", "use retain_batch=full"]),
        ("BalDRO_G", {"unit": "token"}, ["unit='token'", "SatImp, GradDiff", "NPO", "use unit=sample"]),
        ("BalDRO_G", {"base": "SatImp", "unit": "token", "scope": "dataset"}, ["scope='dataset'", "unit='token'", "use unit=sample or scope=batch"]),
        ("BalDRO_G", {"retain_batch": "matched", "scope": "dataset"}, ["retain_batch='matched'", "scope='dataset'", "use retain_batch=full or scope=batch"]),
        ("BalDRO_G", {"gamma": -1.0}, ["gamma=-1.0", ">= 0"]),
        ("BalDRO_G", {"alpha": math.nan}, ["alpha=nan"]),
        ("BalDRO_G", {"retain_budget": 0}, ["retain_budget=0", "positive", "retain_budget=null"]),
        ("BalDRO_G", {"retain_budget": -0.1}, ["retain_budget=-0.1", "0.1"]),
        ("BalDRO_G", {"retain_budget": "small"}, ["retain_budget='small'"]),
        ("BalDRO_G", {"retain_budget": 0.1, "budget_step": 0.0}, ["budget_step=0.0", "retain_budget=null"]),
        ("BalDRO_G", {"retain_budget": 0.1, "alpha": 0}, ["alpha=0", "use alpha=1.0"]),
        ("BalDRO_G", {"retain_budget": 0.1, "retain_reduction": "sequence_sum"}, ["retain_budget", "retain_reduction='sequence_sum'", "token_mean"]),
        ("BalDRO_G", {"retain_budjet": 0.1}, ["did you mean retain_budget?"]),
        ("BalDRO_G", {"beta": 0.0}, ["beta=0.0", "NPO", "positive"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_key_with_a_way_out(
    variant: str, arguments: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the words follow
        Settings.parse(variant, arguments)
    assert [words for words in named if words not in str(error.value)] == []


NUMBERS = ["two", "", [], {}, [1.0], True, math.nan, 10**400, "1e500", object, b"1"]
WORDS = ["", 3, [], ["NPO"], {}, {"a": 1}, True, object, "Npo", b"NPO", 1.5]
OF_NUMBERS = [
    *(("BalDRO_DV", "NPO", key) for key in ("dv_beta", "dv_radius", "gamma", "alpha")),
    ("BalDRO_G", "NPO", "top_fraction"),
    ("BalDRO_Chi2", "NPO", "chi2_radius"),
    *(
        ("BalDRO_DV", base, key)
        for base in FORGET_LOSSES
        for key, kind in field_types(FORGET_LOSSES[base]).items()
        if kind in ("int", "float")
    ),
]
OF_WORDS = [
    *(
        ("BalDRO_DV", "NPO", key)
        for key in ["retain_loss_type", "hardness", "unit", "retain_reduction", "scope", "reference", "base"]
    ),
    *(("BalDRO_G", "NPO", key) for key in ("group_size", "retain_batch")),
]
BAD = [(*place, value) for place in OF_NUMBERS for value in NUMBERS]
BAD += [(*place, value) for place in OF_WORDS for value in WORDS]
BAD += [
    ("BalDRO_DV", "RMU", key, value)
    for key, value in product(("module_regex", "trainable_params_regex"), ["", 3, [], {}, True, "("])
]


def test_bad_values_are_refused_by_the_name_of_their_key() -> None:
    """Text, lists, mappings and numbers that are none, in every setting, and none in another layer's words."""
    assert len(BAD) > 280
    for variant, base, key, value in BAD:
        with pytest.raises(ValueError) as error:  # noqa: PT011  the words follow
            Settings.parse(variant, {"base": base, key: value})
        assert key in str(error.value), (key, value)
        assert re.search(r"\b(use|write|there (is|are)|did you mean)\b", str(error.value)), (key, value, error.value)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("variant", [[], {}, 3, b"BalDRO_G"])
def test_a_variant_that_is_no_name_is_refused(variant: Any) -> None:
    with pytest.raises(ValueError, match="variant"):
        Settings.parse(variant, {})


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(1), Fraction(1, 2), "5e-1"])
def test_numbers_of_other_libraries_are_numbers(value: Any) -> None:
    assert Settings.parse("BalDRO_G", {"top_fraction": value}).weighting == TopGroup(float(value))
