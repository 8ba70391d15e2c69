"""How far a study is, in one line per command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counts commands, and says after each how many remain and about how long they take.

    Attributes:
        total: How many commands there are.
        say: Receives the lines.
    """

    total: int
    say: Callable[[str], None]
    _done: int = 0
    _ran: int = 0
    _started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, line: str) -> None:
        """Count one command, and say how it ended."""
        with self._lock:
            self._done += 1
            self._ran += line.endswith(" s")  # neither done before nor left out
            left = self.total - self._done
            rest = ""
            if left and self._ran:
                rest = f"; {left} left, about {_duration(left * (time.monotonic() - self._started) / self._ran)}"
            self.say(f"[{self._done}/{self.total}] {line.strip()}{rest}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"
