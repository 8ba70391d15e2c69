"""`python -m baldro_ext.tools.cli`, where the console script is not on the PATH."""

from baldro_ext.tools.cli import app

app(prog_name="baldro")
