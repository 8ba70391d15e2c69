"""A comparison in one command: methods and seeds, unlearned and evaluated by the framework's own commands."""

from baldro_ext.tools.run.method import Method
from baldro_ext.tools.run.study import Run, Study

__all__ = ["Method", "Run", "Study"]
