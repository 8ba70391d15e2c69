"""Runs of the framework side by side: tables, pictures and one report.

from baldro_ext.tools.compare import Options, compare, save

found = compare(["saves"], Options(baseline="NPO"))
save(found, Path("comparison"))
"""

from baldro_ext.tools.compare.comparison import Comparison, Options, compare
from baldro_ext.tools.compare.saving import save

__all__ = ["Comparison", "Options", "compare", "save"]
