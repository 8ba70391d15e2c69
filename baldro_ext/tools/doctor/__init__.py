"""What is installed here, and which known traps of it would spring.

Looking (`look_around`) and judging (`diagnose`) are apart: what is judged is data.
"""

from baldro_ext.tools.doctor.diagnosis import Finding, diagnose
from baldro_ext.tools.doctor.surroundings import OURS, Surroundings, look_around

__all__ = ["OURS", "Finding", "Surroundings", "diagnose", "look_around"]
