"""Amounts as users read them, in a terminal and on a page. Pure."""


def size(octets: int) -> str:
    """Return a number of bytes with the unit that suits it."""
    value, unit = float(octets), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
