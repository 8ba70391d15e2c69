"""A comparison in one command: methods and seeds, unlearned and evaluated by the framework's own commands."""

from baldro_ext.tools.run.methods import Method, StudyError
from baldro_ext.tools.run.plan import Run, Study

__all__ = ["Method", "Run", "Study", "StudyError"]
