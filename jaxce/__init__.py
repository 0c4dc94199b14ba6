"""Cross-entropy for JAX: exact losses, their closed-form gradients, and heads for any number of classes."""

from typing import TYPE_CHECKING, Any

from jaxce.heads import *  # noqa: F403
from jaxce.heads import __all__ as _heads
from jaxce.losses import *  # noqa: F403
from jaxce.losses import __all__ as _losses

if TYPE_CHECKING:
    from jaxce.verification import verify

__all__ = [*_heads, *_losses, "verify"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Verification is imported when it is used.
    if name == "verify":
        from jaxce.verification import verify

        return verify
    raise AttributeError(f"module 'jaxce' has no attribute {name!r}")
