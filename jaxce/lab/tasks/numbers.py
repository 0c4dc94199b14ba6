"""A real number an example."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float

from jaxce.lab import charts
from jaxce.lab.charts import Figure, Sections
from jaxce.lab.metrics import Metric
from jaxce.lab.tasks.task import Hyperparams, OutputTask, Predictions

R2 = Metric("r2", "R²")


@dataclass(frozen=True)
class NumberTask(OutputTask):
    """A real number an example, and one output, which is the prediction. There is no cross-entropy of it."""

    kind = "number"
    losses_of: ClassVar[tuple[str, ...]] = ("real",)
    reported: ClassVar[tuple[Metric, ...]] = (R2, Metric("rmse", "RMSE", larger_is_better=False))

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have for each example."""
        return 1

    @property
    def headline(self) -> Metric:
        """R²."""
        return R2

    def losses(self, outputs: Array, labels: Any, hyperparams: Hyperparams) -> Float[Array, "batch"]:
        """One loss per example."""
        return self.values(outputs, labels[:, None], hyperparams)

    def predict(self, outputs: Any) -> Any:
        """The output itself."""
        return outputs[:, 0]

    def scores_of_all(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """R², the part of the labels' variance that the predictions explain, and RMSE, in the labels' unit."""
        from sklearn.metrics import r2_score, root_mean_squared_error

        predicted = self.predict(outputs)
        return {
            "r2": float(r2_score(labels, predicted)),
            "rmse": float(root_mean_squared_error(labels, predicted)),
        }

    def sections(self, found: Predictions) -> Sections:
        """Predicted numbers against true ones."""
        error = self.scores_of_all(found.outputs, found.labels)["rmse"]
        scatter = Figure(
            "Predicted against true",
            charts.true_against_predicted(found.labels, self.predict(found.outputs)),
            f"Scatter of {len(found.labels)} examples along the diagonal; RMSE {error:.4g}.",
            "On the dashed line, predictions are right.",
        )
        return Sections(figures=[scatter])
