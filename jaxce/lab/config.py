"""Config: every setting of a training run, in one flat, frozen value; `load_config` finds one by name."""

import ast
import math
import runpy
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import tyro

import jaxce
from jaxce.lab.data import NAMES, is_data
from jaxce.lab.errors import ConfigError, check, choose, did_you_mean, in_words

# Options of the losses in `jaxce.LOSSES` that a config can set, each a field of the same name.
LOSS_OPTIONS = (
    "label_smoothing",
    "z_loss",
    "pos_weight",
    "alpha",
    "gamma",
    "epsilon",
    "gamma_neg",
    "gamma_pos",
    "clip",
)

# A network gives logits or predictions; the other losses take probabilities or cosines, and margin heads
# give no loss. The error rate is one, but its gradient is zero.
TRAINABLE_LOSSES = [
    name
    for name, loss in jaxce.LOSSES.items()
    if loss.inputs in ("logits", "predictions") and loss.returns == "losses" and name != "classification_error"
]

# Margin heads between features and loss. combined_margin, of three margins, contains arcface and cosface.
MARGIN_HEADS = [
    name for name, head in jaxce.LOSSES.items() if head.returns == "logits" and "margin" in head.options
]
HEAD_OPTIONS = ("margin", "scale")

# Numbers that enter the compiled step as traced scalars: changing one never compiles again.
HYPERPARAMS = (
    "learning_rate",
    "momentum",
    "weight_decay",
    "clip_norm",
    "ema_decay",
    *LOSS_OPTIONS,
    *HEAD_OPTIONS,
)


def one_of(names: Iterable[str]) -> str:
    """How `--help` shows a choice.

    >>> one_of(["cnn", "mlp"])
    '{cnn,mlp}'
    """
    return f"{{{','.join(names)}}}"


# The models that have a name, and how many widths each takes.
WIDTHS_OF: dict[str, tuple[Callable[[int], bool], str]] = {
    "cnn": (lambda count: count >= 2, "two or more, the last a dense layer's"),
    "group_norm_cnn": (lambda count: count >= 2, "two or more, the last a dense layer's"),
    "mlp": (lambda count: count >= 1, "one or more"),
    "linear": (lambda count: count == 0, "none"),
}


@dataclass(frozen=True)
class Config:
    """One training run, whole: the same config, code and device give the same numbers.

    The examples are split once into three parts, stratified by class and seeded by `split_seed`, so
    that every `seed` sees the same split. `train` fits the parameters; `valid` draws the curves, one
    point an epoch, and is what settings are chosen by; `test` is looked at once, after the last epoch.
    """

    data: Annotated[str, tyro.conf.arg(metavar=one_of(NAMES))] = "digits"
    """Data set: one of jaxce's, one of TensorFlow Datasets, or your own arrays `inputs` and `labels`."""
    valid_fraction: float = 0.1
    """Fraction of all examples held out for the curves: enough to see a trend, little enough to spare."""
    test_fraction: float = 0.2
    """Fraction of all examples held out for the final number: on 360 digits it is good to half a percent."""
    split_seed: int = 0
    """Seed of the split. Leave it alone when comparing runs: another split is another test."""

    model: Annotated[str, tyro.conf.arg(metavar=one_of([*WIDTHS_OF, "MODULE:FUNCTION"]))] = "cnn"
    """Model: a kind of network; `linear` for logistic, softmax and least-squares regression; or the Python
    function that makes your own, MODULE:FUNCTION or FILE.py:FUNCTION (docs/models.md)."""
    widths: tuple[int, ...] | None = None
    """Layer widths. cnn: stages, then one dense layer (None: 32 64 128, with group norm 32 64 128 256); mlp:
    hidden layers (None: 256)."""

    loss: Annotated[str, tyro.conf.arg(metavar=one_of(TRAINABLE_LOSSES))] = (
        "softmax_cross_entropy_with_integer_labels"
    )
    """Loss, of those in jaxce.LOSSES that take what a network gives."""
    joint_softmax: bool = False
    """One softmax_cross_entropy over the outputs of all positions, not one each: the wrong tool, to show it."""
    label_smoothing: float | None = None
    """Part of the target's mass that is spread evenly over the classes. None, in this option of the loss and in
    those that follow: the loss's own default."""
    z_loss: float | None = None
    """Weight of the squared log-sum-exp added to a softmax loss: keeps logits from drifting."""
    pos_weight: float | None = None
    """Weight of the positive term of the binary cross-entropy: above 1 buys recall."""
    alpha: float | None = None
    """Class balance of a focal loss."""
    gamma: float | None = None
    """Focusing exponent of a focal loss: 0 is plain cross-entropy."""
    epsilon: float | None = None
    """Weight of the first polynomial term of the poly loss."""
    gamma_neg: float | None = None
    """Focusing exponent of the asymmetric loss for negatives."""
    gamma_pos: float | None = None
    """Focusing exponent of the asymmetric loss for positives."""
    clip: float | None = None
    """Probability by which the asymmetric loss shifts negatives: easier ones cost nothing."""

    head: Annotated[str | None, tyro.conf.arg(metavar=one_of([*MARGIN_HEADS, "None"]))] = None
    """Margin head before a softmax loss. None: the network's outputs are the logits; where valid and test have
    classes that training has not, a linear layer on its features."""
    margin: float | None = None
    """Margin by which the true class has to win, in the head's own unit: 0, or a factor of 1, is none."""
    scale: float | None = None
    """Factor of the cosines in a margin head: the length that all features are taken to have."""
    margin_epochs: float = 0.0
    """Epochs, fractions too, over which the margin comes in: large_margin_softmax learns nothing without."""
    embedding_width: int = 32
    """Length of the feature vectors that a head takes, and that examples of unseen classes are compared by."""
    num_sampled: int | None = None
    """Classes that a step sees, the batch's own and others at random, for more than a step has time for. None:
    all. Valid and test always see all."""
    class_devices: int = 1
    """Devices to spread the head's classes over; on a CPU, virtual ones. The others share out the batch."""

    optimizer: Literal["sgd", "momentum", "adam", "adamw", "lamb", "lion"] = "adam"
    """Update rule, from Optax."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: held, or lowered to zero at the last step along half a cosine."""
    warmup_epochs: float = 0.0
    """Epochs, fractions too, over which the learning rate rises linearly to its peak."""
    momentum: float = 0.9
    """Decay of the gradient's running mean: of momentum; beta 1 of adam, adamw, lamb and lion."""
    weight_decay: float = 0.0
    """Pull of kernels, not biases, to zero. sgd, momentum, adam: L2, in the gradient; others: decoupled."""
    clip_norm: float | None = None
    """Largest global norm of a gradient; longer ones are scaled down to it. None: no limit."""
    ema_decay: float | None = None
    """Decay of the parameters' running mean, which valid and test then are measured with. None: no mean."""

    batch_size: int | None = 128
    """Examples a step; those that fill no last batch sit out the epoch, others each time. None: all."""
    epochs: int = 100
    """Passes over the training examples."""
    seed: int = 0
    """Seed of everything random but the split: initial parameters and the order of examples."""

    def __post_init__(self) -> None:
        """Check the type and range of each field, and what must fit together.

        Raises:
            ConfigError: A value does not fit; the message says which and what would.
        """
        if isinstance(self.widths, list):  # as JSON has it; a tuple can be hashed
            object.__setattr__(self, "widths", tuple(self.widths))
        if callable(self.model):
            object.__setattr__(self, "model", name_of(self.model))
        for name, kind in get_type_hints(Config).items():
            check(name, getattr(self, name), has_type(getattr(self, name), kind), in_words(kind))
        if not is_data(self.data):
            choose("data", self.data, NAMES)
        if ":" not in self.model:
            choose("model", self.model, [*WIDTHS_OF, "MODULE:FUNCTION", "FILE.py:FUNCTION"])
        for name, (fits, expected) in RANGES.items():
            value = getattr(self, name)
            check(name, value, value is None or (math.isfinite(value) and fits(value)), expected)
        held_out = self.valid_fraction + self.test_fraction
        check("valid_fraction + test_fraction", held_out, held_out < 1, "below 1: the rest is for training")
        for name in ("warmup_epochs", "margin_epochs"):
            fits_run = 0 <= getattr(self, name) <= self.epochs
            check(name, getattr(self, name), fits_run, f"from 0 to epochs = {self.epochs}")
        if self.widths is not None:
            check("widths", self.widths, all(width >= 1 for width in self.widths), "at least 1 each")
            if self.model in WIDTHS_OF:
                fits_model, expected = WIDTHS_OF[self.model]
                check(f"widths of model {self.model}", self.widths, fits_model(len(self.widths)), expected)
        check_loss(self)
        check_head(self)


RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "valid_fraction": (lambda x: 0 < x < 1, "between 0 and 1"),
    "test_fraction": (lambda x: 0 < x < 1, "between 0 and 1"),
    "learning_rate": (lambda x: x > 0, "above 0 and finite"),
    "embedding_width": (lambda x: x >= 1, "at least 1"),
    "num_sampled": (lambda x: x >= 1, "at least 1, or None for all classes"),
    "class_devices": (lambda x: x >= 1, "at least 1"),
    "clip_norm": (lambda x: x > 0, "above 0 and finite"),
    "momentum": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "ema_decay": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "weight_decay": (lambda x: x >= 0, "at least 0 and finite"),
    "batch_size": (lambda x: x >= 1, "at least 1, or None for all examples"),
    "epochs": (lambda x: x >= 1, "at least 1"),
    "seed": (lambda x: 0 <= x < 2**32, "from 0 to 2**32 - 1"),
    "split_seed": (lambda x: 0 <= x < 2**32, "from 0 to 2**32 - 1"),
}


def has_type(value: object, kind: Any) -> bool:
    """Whether a field of type `kind` can hold `value`; a whole number is a number too.

    >>> has_type(1, float), has_type("1", float | None), has_type((1, 2), tuple[int, ...])
    (True, False, True)
    """
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is UnionType:
        return any(has_type(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(has_type(item, get_args(kind)[0]) for item in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def name_of(function: Callable[..., object]) -> str:
    """How a config stores a function: MODULE:FUNCTION, or FILE.py:FUNCTION of one that stands in a config file.

    >>> name_of(math.prod)
    'math:prod'
    """
    code = getattr(function, "__code__", None)
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    if module in ("<run_path>", "__main__"):
        module = code and code.co_filename
    if module is None or name is None or function.__qualname__ != name or name == "<lambda>":
        raise ConfigError(
            f"model {function!r} cannot be stored: give a function of a module's or file's top level, or "
            f"MODULE:FUNCTION"
        )
    return f"{module}:{name}"


def check_loss(config: Config) -> None:
    """Raise ConfigError when the loss, or one of its options, does not fit."""
    choose("loss", config.loss, TRAINABLE_LOSSES)
    if config.joint_softmax and config.loss != "softmax_cross_entropy":
        raise ConfigError(f"joint_softmax needs loss softmax_cross_entropy, not {config.loss}")
    loss = jaxce.LOSSES[config.loss]
    options = {name: getattr(config, name) for name in LOSS_OPTIONS if getattr(config, name) is not None}
    for name in options:
        if name not in loss.options:
            takes = ", ".join(name for name in LOSS_OPTIONS if name in loss.options) or "none"
            raise ConfigError(f"{name} is no option of {config.loss}, which takes {takes}")
    # A loss checks the range of its options where they are concrete; in the compiled step they are not.
    logits = jax.ShapeDtypeStruct((1, 2), jnp.float32)
    labels = jax.ShapeDtypeStruct((1,), jnp.int32) if loss.labels == "integer" else logits
    try:
        jax.eval_shape(lambda logits, labels: loss.value(logits, labels, **options), logits, labels)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_head(config: Config) -> None:
    """Raise ConfigError when the margin head, or one of its options, does not fit."""
    options = {name: getattr(config, name) for name in HEAD_OPTIONS if getattr(config, name) is not None}
    if config.head is None:
        for name in (*options, *["margin_epochs"][: config.margin_epochs > 0]):
            raise ConfigError(f"{name} needs a head: one of {', '.join(MARGIN_HEADS)}")
        return
    choose("head", config.head, MARGIN_HEADS)
    if (takes := jaxce.LOSSES[config.loss].labels) != "integer":
        raise ConfigError(
            f"head {config.head} goes before a loss of class numbers, but {config.loss} takes {takes} labels"
        )
    head = jaxce.LOSSES[config.head]
    if head.inputs == "features" and (config.num_sampled is not None or config.class_devices > 1):
        raise ConfigError(f"head {config.head} forms all logits: num_sampled and class_devices are for others")
    for name, value in options.items():
        if name not in head.options:
            raise ConfigError(f"{name} is no option of {config.head}")
        if name in head.static:
            check(
                f"{name} of {config.head}",
                value,
                value == int(value) and value >= 1,
                "a whole number of 1 or more",
            )
            options[name] = int(value)
    rows, labels = jax.ShapeDtypeStruct((1, 2), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    first = (rows, jax.ShapeDtypeStruct((2, 2), jnp.float32)) if head.inputs == "features" else (rows,)
    try:
        jax.eval_shape(lambda *args: head.value(*args, **options), *first, labels)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def hyperparams(config: Config) -> dict[str, float]:
    """The traced numbers of a config, by name; those that are None are absent, which is a matter of structure.

    >>> hyperparams(Config(learning_rate=0.01, label_smoothing=0.1))
    {'learning_rate': 0.01, 'momentum': 0.9, 'weight_decay': 0.0, 'label_smoothing': 0.1}
    """
    values = {name: getattr(config, name) for name in HYPERPARAMS}
    return {name: float(value) for name, value in values.items() if value is not None}


def find_configs() -> dict[str, Path]:
    """Every configs/<name>.py: of the current folder first, then those of jaxce."""
    package = Path(jaxce.__file__).parent
    # A wheel has them in the package, a checkout beside it.
    own = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for folder in (own, Path("configs")) for path in sorted(folder.glob("*.py"))}


def describe_configs() -> dict[str, str]:
    """Name and first docstring line of each config; the files are read, not run."""
    docs = {name: ast.get_docstring(ast.parse(path.read_text())) for name, path in find_configs().items()}
    return {name: (doc or "").partition("\n")[0] for name, doc in docs.items()}


def load_config(name: str) -> Config:
    """The `config` of configs/<name>.py, or of the file whose path is given.

    Raises:
        ConfigError: There is no such config, or its file fails: then file, line and error are named.
    """
    configs = find_configs()
    path = configs.get(name, Path(name))
    if path.suffix == ".py" and not path.is_file():
        raise ConfigError(f"there is no config file {name}")
    if path.suffix != ".py":
        raise ConfigError(
            f"unknown config {name!r}{did_you_mean(name, configs)}; "
            f"there are: {', '.join(configs) or 'none here'}; or give the path of a .py file"
        )
    try:
        config = runpy.run_path(str(path)).get("config")
    except SyntaxError as error:
        raise ConfigError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        message = " ".join(str(error).split())
        raise ConfigError(f"{path}, line {lines[-1] if lines else 1}: {kind}{message}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"{path} defines no `config`: it must end with `config = Config(...)`")
    return config
