"""Cross-entropy for JAX: exact losses, their closed-form gradients, and heads for any number of classes."""

from jaxce.heads import *  # noqa: F403
from jaxce.heads import __all__ as _heads
from jaxce.losses import *  # noqa: F403
from jaxce.losses import __all__ as _losses
from jaxce.verification import verify

__all__ = [*_heads, *_losses, "verify"]
