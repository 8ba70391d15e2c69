"""The command `baldro`, and all that the method does without: nothing outside this folder imports it."""

import sys

from baldro_ext.errors import install_command


def main() -> None:
    """Run the command `baldro`, or say how to install what it needs."""
    try:
        from baldro_ext.tools.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("baldro_ext"):
            raise
        sys.exit(f"baldro needs {error.name}, which the extra `tools` installs: {install_command('tools')}")
    app()
