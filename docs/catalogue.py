"""Write docs/losses.md, the catalogue of all losses, from `jaxce.LOSSES`: `python docs/catalogue.py`."""

import inspect
from pathlib import Path

import jaxce

PAGE = Path(__file__).with_name("losses.md")

INPUTS = {
    "logits": "logits z",
    "probs": "probabilities p",
    "log_probs": "log-probabilities",
    "predictions": "real numbers",
    "cosines": "cosines to the class directions",
    "features": "features x and a kernel W",
}
LABELS = {
    "integer": "class numbers",
    "distribution": "distributions over the classes",
    "log_distribution": "log-distributions over the classes",
    "binary": "numbers in [0, 1], one a component",
    "real": "real numbers",
    "none": "none",
}


INTRODUCTION = (
    "One entry each, written from `jaxce.LOSSES` by `python docs/catalogue.py`; a test keeps the page true. "
    "Values are in nats where logarithms occur, one per example. The code is the definition of one example in "
    "`jaxce/losses/definitions.py`; the function of the same name is an exact form of it. Every `loss` has its "
    "closed-form gradient, `loss.grad`, with the same arguments. Convex means: in the inputs, with the default "
    "options."
)


def catalogue() -> str:
    """The page, in Markdown."""
    entries = "\n".join(map(entry, jaxce.LOSSES.values()))
    return f"""# The losses

{INTRODUCTION}

{entries}"""


def entry(loss: jaxce.Loss) -> str:
    """One loss."""
    doc = (inspect.getdoc(loss.value) or "").partition("\n")[0]
    options = ", ".join(f"{name}={default!r}" for name, default in loss.options.items())
    facts = {
        "inputs": INPUTS[loss.inputs],
        "labels": LABELS[loss.labels],
        "options": f"`{options}`" if options else "none",
        "convex": {True: "yes", False: "no", None: "not a loss but logits for one"}[loss.convex],
        "gradient": loss.gradient.removesuffix("."),
        "source": loss.source,
    }
    lines = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    code = inspect.getsource(loss.definition).rstrip()
    return f"## `{loss.name}`\n\n{doc}\n\n> {loss.formula}\n\n```python\n{code}\n```\n\n{lines}\n"


if __name__ == "__main__":
    PAGE.write_text(catalogue())
    print(f"wrote {len(jaxce.LOSSES)} losses to {PAGE}")
