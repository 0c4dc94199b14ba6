"""Pictures of four digits that are made hard to read, drawn by the `captcha` package."""

import importlib.metadata
import importlib.util
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxce.lab.data.examples import Examples
from jaxce.lab.data.generated import Arrays, generate
from jaxce.lab.data.split import Dataset, Split

NUM_DIGITS = 4


def captcha(split: Split, count: int = 32_000, cache: Path | None = None) -> Dataset:
    """Captchas of four digits, grey levels centred on zero, inputs [N, 30, 80, 1], labels [N, 4].

    As the package makes them, 160x60 in its own font, warped, turned by up to 30 degrees, crossed by a
    curve and sprinkled with dots; then in grey and at half the size, which a reader barely notices.
    """
    settings = {"seed": 0, "captcha": importlib.metadata.version("captcha")}
    drawn = generate("captchas", partial(draw_captchas, seed=0), count, settings, cache)
    # Paper is white and covers most of a picture: uncentred, it drowns the ink.
    images = (drawn["images"].astype(np.float32) - drawn["images"].mean()) / drawn["images"].std()
    parts = split.divide(Examples(images[..., None], drawn["labels"].astype(np.int32)))
    return Dataset(*parts, classes=tuple("0123456789"), labels="sequence")


def draw_captchas(numbers: range, seed: int) -> Arrays:
    """One captcha for each number: images [N, 30, 80] and labels [N, 4], as bytes."""
    chance = SeededSecrets()
    writer = image_module(chance).ImageCaptcha(width=160, height=60)
    images, labels = [], []
    for number in numbers:
        chance.seed(f"{seed} {number}")
        digits = [chance.randbelow(10) for _ in range(NUM_DIGITS)]
        picture = writer.generate_image("".join(map(str, digits)))
        images.append(np.asarray(picture.convert("L").reduce(2)))
        labels.append(digits)
    return {"images": np.array(images, np.uint8), "labels": np.array(labels, np.uint8)}


def image_module(secrets: "SeededSecrets") -> Any:
    """A private copy of the module captcha.image that draws its random numbers from `secrets`.

    The package draws them from the operating system, which cannot be seeded, and has no argument for others.
    """
    spec = importlib.util.find_spec("captcha.image")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.secrets = secrets
    return module


class SeededSecrets(random.Random):
    """The functions of the module `secrets` that captcha.image calls, with a seed."""

    def randbelow(self, bound: int) -> int:
        """A whole number from 0 to bound − 1."""
        return self.randrange(bound)

    def randbits(self, count: int) -> int:
        """A whole number of `count` bits."""
        return self.getrandbits(count)
