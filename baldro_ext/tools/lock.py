"""A lock on a folder that is held by a process and by the commands that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class LockedError(RuntimeError):
    """Another process holds the lock; the message is what it wrote into the lock file, if anything."""


@contextmanager
def locked(file: Path) -> Iterator[int | None]:
    """Hold a lock; the operating system releases it when the last process with its descriptor has ended.

    A command that inherits the descriptor (`pass_fds`) keeps the lock if this process is killed and the command is not.

    Args:
        file: Stays there, and may hold a text about who has the lock.

    Yields:
        The descriptor of the file; `None` on Windows, where commands do not inherit the lock.

    Raises:
        LockedError: Another process holds it.
        OSError: The file cannot be opened.
    """
    if sys.platform == "win32":
        try:
            with FileLock(file, timeout=0):
                yield None
        except Timeout:
            raise LockedError("") from None
        return
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(file.read_text(errors="replace")) from None
        yield descriptor
    finally:
        os.close(descriptor)  # and no unlocking, which would also take the lock from commands that still run
