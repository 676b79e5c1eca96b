"""Autoencoders of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.networks.backend import Seeds, load_keras
from tasks.networks.protocol import FitSettings, check_count, image_shape

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, repr=False)
class denoising_autoencoder(FitSettings):
    """A convolutional autoencoder that learns to remove noise: 28,353 parameters for 28 x 28 x 1 images.

    Convolution 32 of 3 x 3, pooling, convolution 32, pooling, convolution 32, upsampling, convolution 32, upsampling,
    convolution to the image's channels; ReLU inside, sigmoid at the end. It is trained from noisy rows to the same
    rows of the clean dataset. Sides that are no multiple of four are padded with zeros inside and cropped again.

    Parameters
    ----------
    filters : int
        Channels of the inner convolutions.
    skips : bool
        True adds the features before each pooling to those of the same size behind the bottleneck. It costs no
        parameter and keeps fine structure that two poolings lose; it is then no longer the plain autoencoder.
    epochs, batch_size, learning_rate, schedule, patience
        See `tasks.networks.protocol.FitSettings`.

    References
    ----------
    Vincent, Larochelle, Bengio and Manzagol (2008), Extracting and composing robust features with denoising
    autoencoders. Mao, Shen and Yang (2016), Image restoration using very deep convolutional encoder-decoder networks
    with symmetric skip connections.
    """

    kind: ClassVar[str] = "images"
    task: ClassVar[str] = "reconstruction"
    _: KW_ONLY
    filters: int = 32
    skips: bool = False
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "filters")
        if not isinstance(self.skips, bool):
            raise ValueError(f"expected skips of denoising_autoencoder as True or False, received {self.skips!r}")

    def build(
        self, input_shape: Sequence[int] = (28, 28, 1), classes: int | Sequence[str] = 0, *, seed: int = 0
    ) -> keras.Model:
        """Build and compile the model.

        Parameters
        ----------
        input_shape : tuple of int
            Height, width, channels; sides of at least 4.
        classes : int
            Not used: it is here so that all networks are built alike.
        seed : int
            Of the initial weights.

        Returns
        -------
        keras.Model
            From uint8 images (n, height, width, channels) to floats of the same shape, 0 to 1.
        """
        height, width, channels = image_shape(self, input_shape, least=4)
        keras, seeds = load_keras(), Seeds(seed)
        layers = keras.layers

        def conv(name: str) -> Any:
            return layers.Conv2D(
                self.filters, 3, padding="same", activation="relu", kernel_initializer=seeds.he(name), name=name
            )

        def joined(x: Any, features: Any, name: str) -> Any:
            return layers.Add(name=name)([x, features]) if self.skips else x

        image = keras.Input((height, width, channels), dtype="uint8", name="image")
        x = layers.Rescaling(1 / 255, name="scale")(image)
        bottom, right = -height % 4, -width % 4
        if bottom or right:
            x = layers.ZeroPadding2D(((0, bottom), (0, right)), name="pad")(x)
        full = conv("conv1")(x)
        half = conv("conv2")(layers.MaxPooling2D(2, name="pool1")(full))
        x = conv("conv3")(layers.MaxPooling2D(2, name="pool2")(half))
        x = joined(layers.UpSampling2D(2, name="up1")(x), half, "skip1")
        x = joined(layers.UpSampling2D(2, name="up2")(conv("conv4")(x)), full, "skip2")
        x = layers.Conv2D(
            channels, 3, padding="same", activation="sigmoid", kernel_initializer=seeds.glorot("output"), name="output"
        )(x)
        if bottom or right:
            x = layers.Cropping2D(((0, bottom), (0, right)), name="crop")(x)
        model = keras.Model(image, x, name="denoising_autoencoder")
        # Its minimum is at the same images as the squared error's. But that one has no gradient where the sigmoid is
        # flat, and images that are mostly black drove one start in four there, for good.
        model.compile(keras.optimizers.Adam(self.learning_rate), loss="binary_crossentropy")
        return model
