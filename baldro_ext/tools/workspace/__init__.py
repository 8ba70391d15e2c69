"""Working folders in which the framework's TOFU commands run offline, on made-up data and small models.

`lay_out(Path("toy"))` writes made-up data under the name that the framework loads, `locuslab/TOFU`, and small Llamas
that have memorised it under the names of the real ones: a dataset or model name is taken for a local folder first.
"""

from baldro_ext.tools.workspace.layout import lay_out, lay_out_pretrained
from baldro_ext.tools.workspace.tofu import make_tofu, read_rows, rows_to_memorise

__all__ = ["lay_out", "lay_out_pretrained", "make_tofu", "read_rows", "rows_to_memorise"]
