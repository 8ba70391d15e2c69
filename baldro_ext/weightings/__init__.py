"""Worst-case distributions over per-sample losses: the inner maximum of robust optimisation.

Among distributions Q close to uniform, the adversary picks the one that maximises the mean E_Q[l] of the losses
l_1..l_n. This Q is also the gradient of the maximum with respect to the losses (Danskin's theorem), so a weighting
computes two things: the weights and the value.
"""

from baldro_ext import registry
from baldro_ext.weightings.base import Weighting as Weighting
from baldro_ext.weightings.base import WorstCase as WorstCase
from baldro_ext.weightings.base import with_gradient as with_gradient
from baldro_ext.weightings.chi_square import ChiSquare as ChiSquare
from baldro_ext.weightings.donsker_varadhan import DonskerVaradhan as DonskerVaradhan
from baldro_ext.weightings.donsker_varadhan import donsker_varadhan_weights as donsker_varadhan_weights
from baldro_ext.weightings.top_group import TopGroup as TopGroup
from baldro_ext.weightings.top_group import top_group_weights as top_group_weights

VARIANTS = registry.Registry[Weighting](
    registry.WEIGHTINGS,
    Weighting,  # type: ignore[type-abstract]
    {"BalDRO_DV": DonskerVaradhan, "BalDRO_G": TopGroup, "BalDRO_Chi2": ChiSquare},
)
"""The weightings by the name of their trainer."""
