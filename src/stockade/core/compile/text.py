"""Short names for content."""

from hashlib import blake2b


def digest(content: bytes | str) -> str:
    """Return twelve hexadecimal digits that stand for this content."""
    data = content.encode() if isinstance(content, str) else content
    return blake2b(data, digest_size=6).hexdigest()
