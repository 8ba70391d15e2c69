"""`python -m baldro_ext.cli`, where the console script is not on the PATH."""

from baldro_ext.cli import app

app(prog_name="baldro")
