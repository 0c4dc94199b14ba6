"""Pure loss functions of logits, their closed-form gradients, and LOSSES, the one list of them all."""

# ruff: noqa: F403, I001  # every name of a module's __all__, in the order in which LOSSES lists them

from jaxce.losses.loss import *
from jaxce.losses.softmax import *
from jaxce.losses.sigmoid import *
from jaxce.losses.divergence import *
from jaxce.losses.squared import *
from jaxce.losses.margin import *
from jaxce.losses.cosines import *
from jaxce.losses.adjustments import *
