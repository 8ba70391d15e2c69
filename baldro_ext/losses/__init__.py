"""Per-sample forget losses and their registry.

A loss is larger the less a sample is forgotten, so the worst case is the sample remembered best.
To add one, write a class in a module of this package and a YAML file in `configs/trainer`.
"""

from baldro_ext.losses.activations import RMU as RMU
from baldro_ext.losses.activations import activation_distances as activation_distances
from baldro_ext.losses.base import FORGET_LOSSES as FORGET_LOSSES
from baldro_ext.losses.base import ForgetLoss as ForgetLoss
from baldro_ext.losses.base import TokenAveraged as TokenAveraged
from baldro_ext.losses.base import register as register
from baldro_ext.losses.distributions import CEU as CEU
from baldro_ext.losses.distributions import PDU as PDU
from baldro_ext.losses.distributions import UNDIAL as UNDIAL
from baldro_ext.losses.likelihoods import DPO as DPO
from baldro_ext.losses.likelihoods import NPO as NPO
from baldro_ext.losses.likelihoods import WGA as WGA
from baldro_ext.losses.likelihoods import GradDiff as GradDiff
from baldro_ext.losses.likelihoods import SatImp as SatImp
from baldro_ext.losses.likelihoods import SimNPO as SimNPO
from baldro_ext.losses.likelihoods import npo_losses as npo_losses
from baldro_ext.losses.likelihoods import satimp_token_losses as satimp_token_losses
from baldro_ext.losses.likelihoods import simnpo_losses as simnpo_losses
