"""Cross-entropy for JAX: exact losses, their closed-form gradients, and heads for any number of classes."""

from jaxce.losses import *  # noqa: F403
