"""Colours of methods in pictures."""

import itertools

import numpy as np
import pytest

from baldro_ext.tools.palette import METHODS, colours

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as people without one kind of cone see it.
SEEN = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(colour: str, seen: list[list[float]]) -> np.ndarray:
    """CIELAB, white D65."""
    rgb = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.clip(np.array(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", SEEN)
def test_colour_blind_people_can_tell_methods_apart(kind: str) -> None:
    for one, other in itertools.combinations(METHODS.values(), 2):
        assert np.linalg.norm(lab(one, SEEN[kind]) - lab(other, SEEN[kind])) > 15, (one, other)


def test_a_method_has_its_colour_whatever_stands_beside_it() -> None:
    assert colours(["mine", "BalDRO_DV dv_beta=5", "NPO"])["NPO"] == METHODS["NPO"]
    assert colours(["BalDRO_DV_SimNPO", "SimNPO"]) == {
        "BalDRO_DV_SimNPO": METHODS["BalDRO_DV"],
        "SimNPO": METHODS["SimNPO"],
    }
    assert (
        colours(["BalDRO_DV_GradDiff_radius", "GradDiff"])["BalDRO_DV_GradDiff_radius"] == METHODS["BalDRO_DV_radius"]
    )


def test_colours_are_different_as_long_as_there_are_enough() -> None:
    names = ["BalDRO_DV", "BalDRO_DV dv_beta=5", "BalDRO_DV dv_beta=1", "NPO", "mine", "yours", "BalDRO_DV_radius"]
    assert len(set(colours(names).values())) == len(names) < len(METHODS)
    many = [f"m{n}" for n in range(20)]
    assert list(colours(many)) == many
