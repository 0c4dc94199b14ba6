"""Losses of linear heads, features @ kernel + bias, for any number of classes."""

from jaxce.heads.linear import (
    TokenStatistics,
    linear_loss,
    linear_softmax_cross_entropy,
    linear_token_statistics,
)
from jaxce.heads.mesh import ClassParallel
from jaxce.heads.sampled import SampledClasses, partial_fc, sample_classes, sampled_softmax

__all__ = [
    "ClassParallel",
    "SampledClasses",
    "TokenStatistics",
    "linear_loss",
    "linear_softmax_cross_entropy",
    "linear_token_statistics",
    "partial_fc",
    "sample_classes",
    "sampled_softmax",
]
