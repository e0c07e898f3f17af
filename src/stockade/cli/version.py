"""``stockade version``. Loads nothing more than the command line itself."""

import stockade


def version() -> int:
    """The version of this program."""
    print(f"stockade {stockade.__version__}")
    return 0
