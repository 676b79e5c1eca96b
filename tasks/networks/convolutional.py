"""Convolutional classifiers of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks.networks.backend import Seeds, load_keras
from tasks.networks.protocol import FitSettings, check_choice, class_count, image_shape

if TYPE_CHECKING:
    import keras

ACTIVATIONS = ("relu", "tanh")
POOLINGS = ("max", "average")
_SIDE = 32


# Classes in lower case: to the user they are builders, and they print as they were written.
@dataclass(frozen=True, repr=False)
class lenet5(FitSettings):
    """LeNet-5 in its modern form: 61,706 parameters for 28 x 28 x 1 images and 10 classes.

    Convolution 6 of 5 x 5, pooling, convolution 16 of 5 x 5, pooling, dense 120, 84, and softmax, all channels
    connected. Images smaller than 32 x 32 are padded with zeros to that size, as in the original.

    Parameters
    ----------
    activation : {"relu", "tanh"}
        ``tanh`` is the original's; ``relu`` reaches more in the same time.
    pooling : {"max", "average"}
        Likewise: ``average`` is nearer to the original's sub-sampling.
    epochs, batch_size, learning_rate, schedule, patience
        See `tasks.networks.protocol.FitSettings`.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition, figure 2.
    """

    kind: ClassVar[str] = "images"
    task: ClassVar[str] = "classification"
    _: KW_ONLY
    activation: str = "relu"
    pooling: str = "max"
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "activation", ACTIVATIONS)
        check_choice(self, "pooling", POOLINGS)

    def build(
        self, input_shape: Sequence[int] = (28, 28, 1), classes: int | Sequence[str] = 10, *, seed: int = 0
    ) -> keras.Model:
        """Build and compile the model.

        Parameters
        ----------
        input_shape : tuple of int
            Height, width, channels.
        classes : int
            Number of classes.
        seed : int
            Of the initial weights.

        Returns
        -------
        keras.Model
            From uint8 images (n, height, width, channels) to probabilities (n, classes).
        """
        height, width, channels = image_shape(self, input_shape)
        count = class_count(self, classes)
        keras, seeds = load_keras(), Seeds(seed)
        layers = keras.layers
        pool = layers.MaxPooling2D if self.pooling == "max" else layers.AveragePooling2D

        def learned(name: str) -> dict[str, object]:
            return {"name": name, "activation": self.activation, "kernel_initializer": seeds.glorot(name)}

        image = keras.Input((height, width, channels), dtype="uint8", name="image")
        x = layers.Rescaling(1 / 255, name="scale")(image)
        x = layers.ZeroPadding2D((_padding(height), _padding(width)), name="pad")(x)
        x = layers.Conv2D(6, 5, **learned("conv1"))(x)
        x = pool(2, name="pool1")(x)
        x = layers.Conv2D(16, 5, **learned("conv2"))(x)
        x = pool(2, name="pool2")(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(120, **learned("dense1"))(x)
        x = layers.Dense(84, **learned("dense2"))(x)
        output = layers.Dense(count, **(learned("output") | {"activation": "softmax"}))(x)
        model = keras.Model(image, output, name="lenet5")
        model.compile(
            keras.optimizers.Adam(self.learning_rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model


def _padding(size: int) -> tuple[int, int]:
    """Zeros before and after, so that a side has at least 32 pixels."""
    missing = max(0, _SIDE - size)
    return missing // 2, missing - missing // 2
