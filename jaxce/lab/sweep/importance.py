"""How much of the variance of results each field explains, on a full grid, where that is exact arithmetic."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxce.lab.sweep.plan import Plan
from jaxce.lab.sweep.results import Row, value_of


class Importance(NamedTuple):
    """Shares of the variance of the results.

    Attributes:
        shares: Of each field by itself, of interactions between fields, and of chance; they sum to 1.
        note: What chance is here, in a sentence.

    >>> print(Importance({"learning_rate": 0.8, "interactions and chance": 0.2}, "one seed"))
    what explains the differences: learning rate 80 %, interactions and chance 20 %
      (exact shares of the variance, as every combination was trained; one seed)
    """

    shares: dict[str, float]
    note: str

    @property
    def words(self) -> str:
        """The shares in a line."""
        return ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in self.shares.items())

    @property
    def method(self) -> str:
        """What the shares are, in a line."""
        return f"exact shares of the variance, as every combination was trained; {self.note}"

    def __str__(self) -> str:
        """Both, as the terminal shows them."""
        return f"what explains the differences: {self.words}\n  ({self.method})"


def importance_of(rows: Sequence[Row], plan: Plan) -> Importance | None:
    """The importance of each field that takes several values.

    None where it is not exact: some combination was not trained to its end, fewer than two fields vary, the
    seed among them, or all results are equal. The variance among seeds is chance.
    """
    fields = [field for field in plan.fields if len({value_of(row, field) for row in rows}) > 1]
    if len(fields) < 2 or any(row["state"] != "complete" for row in rows):
        return None
    results = {tuple(value_of(row, f) for f in fields): row["valid"][plan.metric] for row in rows}
    levels = [list(dict.fromkeys(values)) for values in zip(*results, strict=True)]
    if not len(results) == len(rows) == math.prod(map(len, levels)) or len(set(results.values())) < 2:
        return None
    table = np.empty([len(each) for each in levels])
    for setting, result in results.items():
        table[tuple(each.index(value) for each, value in zip(levels, setting, strict=True))] = result
    names = [field for field in fields if field != "seed"]
    if "seed" in fields:
        table = np.moveaxis(table, fields.index("seed"), -1)
        parts = [*variances(table.mean(-1)), float(table.var(-1).mean())]
        names, note = [*names, "interactions", "chance"], "chance is the variance among seeds"
    else:
        parts = variances(table)
        names, note = [*names, "interactions and chance"], "one seed cannot tell interactions from chance"
    return Importance({name: part / sum(parts) for name, part in zip(names, parts, strict=True)}, note)


def variances(table: Float[np.ndarray, "..."]) -> list[float]:
    """The variance over a full grid, by functional ANOVA: the main effect of each axis, and the rest.

    The main effect of an axis is the variance of the means along all other axes. The rest is interactions.

    >>> variances(np.array([[0.0, 2.0], [4.0, 6.0]]))
    [4.0, 1.0, 0.0]
    """
    axes = range(table.ndim)
    main = [float(table.mean(tuple(other for other in axes if other != axis)).var()) for axis in axes]
    return [*main, max(float(table.var()) - sum(main), 0.0)]
