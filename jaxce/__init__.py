"""Cross-entropy for JAX: exact losses, their closed-form gradients, and heads for any number of classes."""

# ruff: noqa: F403, I001  # every name of a module's __all__, losses first

from jaxce.losses.loss import *
from jaxce.losses.softmax import *
from jaxce.losses.sigmoid import *
from jaxce.losses.divergence import *
from jaxce.losses.squared import *
from jaxce.losses.margin import *
from jaxce.losses.cosines import *
from jaxce.losses.adjustments import *
from jaxce.heads import *
from jaxce.ball_arithmetic import *
from jaxce.verification import verify as verify

__version__ = "0.1.0"
