"""Compare runs of the framework: a table, three pictures and one report.

from baldro_ext.tools.compare import compare, results, save

comparison = compare(["saves"], baseline="NPO")
print(results(comparison).to_string())
save(comparison, Path("comparison"))
"""

from baldro_ext.tools.compare.comparison import Comparison, compare
from baldro_ext.tools.compare.export import save
from baldro_ext.tools.compare.formatting import results

__all__ = ["Comparison", "compare", "results", "save"]
