"""Run the reproductions of bug reports one after the other, each as if alone; print what each prints, as JSON by name.

Arguments: Markdown files with one block of Python each. Works in the folder it is called in.
"""

import contextlib
import io
import json
import re
import sys
import traceback
from pathlib import Path

outputs = {}
for report in map(Path, sys.argv[1:]):
    (code,) = re.findall(r"^```python\n(.+?)^```", report.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(code, report.name, "exec"), {"__name__": "__main__"})
        except Exception:
            traceback.print_exc(file=printed)
    outputs[report.stem] = printed.getvalue().splitlines()
print(json.dumps(outputs))
