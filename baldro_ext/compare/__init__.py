"""Runs of the framework side by side: tables, pictures and one report.

from baldro_ext.compare import Options, compare

found = compare(["saves"], Options(baseline="NPO"))
save(found, Path("comparison"))
"""

from baldro_ext.compare.comparison import Comparison, Options, compare

__all__ = ["Comparison", "Options", "compare"]
