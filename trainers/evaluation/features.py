"""Features in which examples are compared: networks by name, with the hash of their weights."""

import abc
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gan.checkpoints.trees import digest
from gan.data.dataset import Dataset, to_float
from gan.errors import UsageError
from gan.metrics import Need
from gan.models import inception, inception_weights
from gan.models.classifier import FeatureOutput
from gan.registry import Registry
from gan.sharding import replicated
from gan.trainers.evaluation.trained_classifier import trained_classifier

MAX_PIXELS = 4_096
"""Examples of at most so many values are compared by pixels: the covariance has its square."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A network that is ready to use.

    Attributes:
      name: Name of the network.
      digest: SHA-256 of its weights; empty where it has none.
      resize: How images are brought to its size: `none`, `tf1`, `pytorch` or `clean`.
      extract: Maps examples, uint8 images `[N, H, W, C]` or points `[N, D]`, to features and class
        logits, on all devices of this process.
      warnings: Reasons not to rely on any score in these features.
    """

    name: str
    digest: str
    resize: str
    extract: Callable[[np.ndarray], FeatureOutput]
    warnings: tuple[str, ...] = ()


class FeatureNetwork(abc.ABC):
    """A network in whose features examples are compared.

    Attributes:
      name: Its name in specs.
    """

    name: ClassVar[str]

    def provides(self, dataset: Dataset) -> frozenset[Need]:
        """Returns which inputs of metrics there will be for a dataset; does no work."""
        return frozenset({Need.VECTORS, Need.LOGITS})

    @abc.abstractmethod
    def extractor(self, dataset: Dataset) -> FeatureExtractor:
        """Makes the network ready for examples like those of a dataset.

        Raises:
          UsageError: where it does not suit this dataset, or its weights are not there.
        """


def inputs_of(
    features: FeatureNetwork, dataset: Dataset, labelled: bool = False
) -> frozenset[Need]:
    """Returns which inputs of metrics there are for a dataset in some features.

    Args:
      features: The features.
      dataset: The real examples.
      labelled: Whether samples have labels, of the dataset's classes.
    """
    inputs = features.provides(dataset)
    if labelled and Need.DATA_LOGITS in inputs:
        inputs |= {Need.LABELS}
    return inputs if dataset.mixture is None else inputs | {Need.MIXTURE}


FEATURES: Registry[FeatureNetwork] = Registry("features", FeatureNetwork)


@FEATURES.register("classifier")
@dataclass(frozen=True)
class ClassifierFeatures(FeatureNetwork):
    """A small network that is trained on the dataset's own labels, once, within minutes."""

    name = "classifier"

    def provides(self, dataset: Dataset) -> frozenset[Need]:  # noqa: D102
        return super().provides(dataset) | {Need.DATA_LOGITS}

    def extractor(self, dataset: Dataset) -> FeatureExtractor:  # noqa: D102
        _check_images(self.name, dataset)
        if dataset.num_classes < 2:
            raise UsageError(
                f"features = 'classifier': {dataset.name} has no classes to learn; 'inception' needs "
                f"none"
            )
        classifier = trained_classifier(dataset)
        network = classifier.network

        def apply(params: Any, images: jax.Array) -> FeatureOutput:
            return network.apply({"params": params}, images)  # type: ignore[return-value]

        extract = _on_all_devices(apply, classifier.params, to_float, batch_size=256)
        return FeatureExtractor(
            self.name, digest(classifier.params), "none", extract, classifier.warnings
        )


@FEATURES.register("inception")
@dataclass(frozen=True)
class InceptionFeatures(FeatureNetwork):
    """InceptionV3 as the FID uses it.

    Attributes:
      weights: The published `.pth` or its converted `.npz`; None is the cache, else a download.
      resize: The resize to 299 x 299: as in TensorFlow 1, as in pytorch-fid, or antialiased as in
        clean-fid.
    """

    name = "inception"
    weights: str | None = None
    resize: Literal["tf1", "pytorch", "clean"] = "tf1"

    def extractor(self, dataset: Dataset) -> FeatureExtractor:  # noqa: D102
        _check_images(self.name, dataset)
        path = pathlib.Path(self.weights) if self.weights else inception_weights.at_hand()
        weights = inception_weights.load(path or inception_weights.fetch())
        network = inception.InceptionV3()

        def apply(params: Any, images: jax.Array) -> FeatureOutput:
            output = network.apply({"params": params}, images)
            return FeatureOutput(output.pool, output.logits_unbiased)  # type: ignore[union-attr]

        resize = inception.RESIZES[self.resize]
        extract = _on_all_devices(apply, weights.params, resize, batch_size=32)
        return FeatureExtractor(self.name, weights.digest, self.resize, extract)


@FEATURES.register("pixels")
@dataclass(frozen=True)
class PixelFeatures(FeatureNetwork):
    """No network: the pixels of images, in [0, 1], or the coordinates of points."""

    name = "pixels"

    def provides(self, dataset: Dataset) -> frozenset[Need]:  # noqa: D102
        return frozenset({Need.VECTORS})

    def extractor(self, dataset: Dataset) -> FeatureExtractor:  # noqa: D102
        if (size := int(np.prod(dataset.shape))) > MAX_PIXELS:
            raise UsageError(
                f"features = 'pixels': examples of up to {MAX_PIXELS} values can be compared, one of "
                f"{dataset.name} has {size}"
            )
        return FeatureExtractor(self.name, "", "none", _flatten)


@dataclass(frozen=True)
class _MixtureOnly(FeatureNetwork):
    """No features: points are compared with the mixture that they are drawn from, and only so."""

    name = "points"

    def provides(self, dataset: Dataset) -> frozenset[Need]:
        return frozenset()

    def extractor(self, dataset: Dataset) -> FeatureExtractor:
        return FeatureExtractor(self.name, "", "none", _flatten)


@FEATURES.register("auto")
@dataclass(frozen=True)
class AutoFeatures(FeatureNetwork):
    """Inception for colour images where its weights are in the cache, else the classifier.

    Points whose mixture is known need no features; others have `pixels`.
    """

    name = "auto"

    def provides(self, dataset: Dataset) -> frozenset[Need]:  # noqa: D102
        return self._choice(dataset).provides(dataset)

    def extractor(self, dataset: Dataset) -> FeatureExtractor:  # noqa: D102
        return self._choice(dataset).extractor(dataset)

    def _choice(self, dataset: Dataset) -> FeatureNetwork:
        if len(dataset.shape) == 1:
            return PixelFeatures() if dataset.mixture is None else _MixtureOnly()
        colour = dataset.shape[-1] == 3
        if dataset.num_classes < 2 or (colour and inception_weights.at_hand()):
            return InceptionFeatures()
        return ClassifierFeatures()


def _check_images(features: str, dataset: Dataset) -> None:
    if len(dataset.shape) != 3:
        raise UsageError(
            f"features = {features!r}: images are needed, and {dataset.name} has points; 'pixels' "
            f"takes both"
        )


def _flatten(examples: np.ndarray) -> FeatureOutput:
    vectors = examples.reshape(len(examples), -1)
    vectors = vectors / 255 if examples.dtype == np.uint8 else vectors
    return FeatureOutput(vectors, logits=np.zeros([len(examples), 0]))


def _on_all_devices(
    apply: Callable[[Any, jax.Array], FeatureOutput],
    params: Any,
    prepare: Callable[[Any], Any],
    batch_size: int,
) -> Callable[[np.ndarray], FeatureOutput]:
    """Spreads a network over all devices of this process.

    Args:
      apply: Maps parameters and prepared images to features.
      params: The parameters.
      prepare: Maps uint8 images `[N, H, W, C]` to the network's input.
      batch_size: Number of images that each device takes at a time.

    Returns:
      A function of uint8 images to their features, as NumPy arrays.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
    params = jax.device_put(params, replicated(mesh))
    split = NamedSharding(mesh, PartitionSpec("data"))
    jitted = jax.jit(apply)
    num_images = batch_size * len(devices)

    def extract_batch(images: np.ndarray) -> FeatureOutput:
        num_missing = -len(images) % len(devices)
        padded = np.concatenate([images, np.repeat(images[-1:], num_missing, axis=0)])
        output = jitted(params, jax.device_put(prepare(jnp.asarray(padded)), split))
        return FeatureOutput(*(np.asarray(values)[: len(images)] for values in output))

    def extract(images: np.ndarray) -> FeatureOutput:
        outputs = [
            extract_batch(images[begin : begin + num_images])
            for begin in range(0, len(images), num_images)
        ]
        return FeatureOutput(*(np.concatenate(values) for values in zip(*outputs, strict=True)))

    return extract
