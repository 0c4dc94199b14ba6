"""Losses and their gradients, verified: those of LOSSES by `python -m jaxce verify`, one's own by `verify`."""

from jaxce.verification.user_loss import Verdict, verify

__all__ = ["Verdict", "verify"]
