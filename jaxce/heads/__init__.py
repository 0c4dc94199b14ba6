"""Losses of linear heads, features @ kernel + bias, for any number of classes."""

from jaxce.heads.chunked import (
    TokenStatistics,
    linear_loss,
    linear_softmax_cross_entropy,
    linear_token_statistics,
)

__all__ = [
    "TokenStatistics",
    "linear_loss",
    "linear_softmax_cross_entropy",
    "linear_token_statistics",
]
