"""What all parts of the runner use."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Failed(Exception):
    """A check that did not hold."""


class Unsupported(Exception):
    """An operation that the driver does not have."""


def read(name):
    return json.loads((HERE / "vectors" / name).read_text(encoding="utf-8"))


def equal(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: {found!r}, and not {expected!r}")
