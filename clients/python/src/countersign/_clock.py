"""The two clocks: that of the day, and one that never steps."""

from __future__ import annotations

import time
from typing import Protocol


def _since_boot() -> int | None:
    """On Linux a clock that goes on while the machine is suspended, when no checkpoint comes either."""
    number: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    try:
        if number is not None:
            time.clock_gettime(number)
    except OSError:
        return None
    return number


_SINCE_BOOT = _since_boot()


class Clock(Protocol):
    """Where times come from."""

    def wall(self) -> float:
        """Unix time."""

    def monotonic(self) -> float:
        """Seconds of a clock that only goes forward."""


class SystemClock:
    """The clocks of the machine."""

    def __init__(self, wall_offset: float = 0.0) -> None:
        self._offset = wall_offset

    def wall(self) -> float:
        return time.time() + self._offset

    def monotonic(self) -> float:
        return time.monotonic() if _SINCE_BOOT is None else time.clock_gettime(_SINCE_BOOT)
