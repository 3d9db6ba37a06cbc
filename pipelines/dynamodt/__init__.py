"""Zero-downtime data transformations for Amazon DynamoDB.

What an author's script may want: `Put`, `Delete`, `without`. What its test wants: `load_script`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamodt.model.items import Delete, Put
from dynamodt.script.codec import without

if TYPE_CHECKING:
    from dynamodt.script.load import load_script


__all__ = ["Delete", "Put", "load_script", "without"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load_script` brings the compiler's modules along, which a command that only prints help does not need."""
    if name != "load_script":
        raise AttributeError(f"module 'dynamodt' has no attribute {name!r}")
    from dynamodt.script.load import load_script

    return load_script
