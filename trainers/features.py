"""Networks in whose features images are compared: by name, with the hash of their weights."""

import abc
import hashlib
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax import traverse_util
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gan.data.batches import indices_at
from gan.data.dataset import Dataset, Examples, to_float
from gan.errors import UsageError
from gan.manifests import digest
from gan.models.classifier import Classifier, Seen
from gan.sharding import replicated
from gan.specs import Registry
from gan.user_cache import cache_folder

_STEPS, _BATCH_SIZE, _RATE = 2_500, 64, 2e-3
_MOST_IMAGES, _MOST_BYTES = 60_000, 512 * 2**20


@dataclass(frozen=True)
class Extractor:
    """Images to features.

    Attributes:
      name: Of the network.
      digest: SHA-256 of its weights.
      resize: How images come to its size: `none`, `tf1`, `pytorch` or `clean`.
      note: For people.
      batch_size: How many images a device looks at together.
      see: uint8 images `[B, H, W, C]` to features and logits, on all devices of this process.
    """

    name: str
    digest: str
    resize: str
    note: str
    batch_size: int
    see: Callable[[np.ndarray], Seen]


class Features(abc.ABC):
    """Where the features come from."""

    @abc.abstractmethod
    def extractor(self, dataset: Dataset) -> Extractor:
        """The network for images like those of a dataset.

        Args:
          dataset: Of images.

        Raises:
          UsageError: where this dataset will not do, or weights are not there.
        """


FEATURES: Registry[Features] = Registry("features", Features)


@FEATURES.register("classifier")
@dataclass(frozen=True)
class ClassifierFeatures(Features):
    """A small network that is trained on the dataset's own labels, once, in about a minute."""

    def extractor(self, dataset: Dataset) -> Extractor:  # noqa: D102
        if dataset.num_classes < 2:
            raise UsageError(
                f"features = 'classifier': {dataset.name} has no classes to learn; 'inception' needs "
                f"none"
            )
        examples = dataset.load()
        network = Classifier(dataset.num_classes)
        made_of = (data_digest(examples), _shapes(network, dataset), _STEPS, _BATCH_SIZE, _RATE)
        key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
        path = cache_folder("classifiers") / f"{key}.npz"
        if (found := read_arrays(path)) is None:
            logging.info("training a classifier of %s, once", dataset.name)
            found = _train(network, examples)
            write_arrays(path, found)
        accuracy = float(found.pop("accuracy"))
        params = traverse_util.unflatten_dict(found, sep="/")
        logging.info(
            "the classifier of %s: %.2f%% of held-out images", dataset.name, 100 * accuracy
        )
        note = f"reads {accuracy:.2%} of held-out images"
        see = _over_devices(_apply(network), params, to_float)
        return Extractor("classifier", digest(params), "none", note, 256, see)


@FEATURES.register("inception")
@dataclass(frozen=True)
class InceptionFeatures(Features):
    """InceptionV3 as the FID uses it.

    Attributes:
      weights: The published `.pth` or its converted `.npz`; None is the cache, else a download.
      resize: To 299 x 299 as TensorFlow 1 does it, as pytorch-fid, or antialiased as clean-fid.
    """

    weights: str | None = None
    resize: Literal["tf1", "pytorch", "clean"] = "tf1"

    def extractor(self, dataset: Dataset) -> Extractor:  # noqa: D102
        from gan.models import inception, inception_weights

        path = pathlib.Path(self.weights) if self.weights else inception_weights.at_hand()
        weights = inception_weights.load(path or inception_weights.fetch())
        network = inception.InceptionV3()

        def apply(params: Any, images: jax.Array) -> Seen:
            seen = network.apply({"params": params}, images)
            return Seen(seen.pool, seen.logits_unbiased)  # type: ignore[union-attr]

        see = _over_devices(apply, weights.params, inception.RESIZES[self.resize])
        return Extractor("inception", weights.digest, self.resize, "", 32, see)


@FEATURES.register("auto")
@dataclass(frozen=True)
class AutoFeatures(Features):
    """Inception for pictures in colour where its weights are at hand, else the classifier."""

    def extractor(self, dataset: Dataset) -> Extractor:  # noqa: D102
        from gan.models import inception_weights

        colour = dataset.shape[-1] == 3
        if dataset.num_classes < 2 or (colour and inception_weights.at_hand()):
            return InceptionFeatures().extractor(dataset)
        return ClassifierFeatures().extractor(dataset)


def data_digest(examples: Examples) -> str:
    """SHA-256 of all examples and labels."""
    total = hashlib.sha256(f"{examples.examples.shape} {examples.examples.dtype}".encode())
    for begin in range(0, len(examples.labels), 1_000):
        total.update(examples.examples[begin : begin + 1_000].tobytes())
    total.update(examples.labels.tobytes())
    return total.hexdigest()


def _shapes(network: Classifier, dataset: Dataset) -> list[tuple[int, ...]]:
    images = jnp.zeros([1, *dataset.shape])
    return [
        leaf.shape
        for leaf in jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0), images))
    ]


def _apply(network: Classifier) -> Callable[[Any, jax.Array], Seen]:
    return lambda params, images: network.apply({"params": params}, images)  # type: ignore[return-value]


def _over_devices(
    apply: Callable[[Any, jax.Array], Seen], params: Any, prepare: Callable[[Any], Any]
) -> Callable[[np.ndarray], Seen]:
    """Looks at images on all devices of this process; `prepare` gives them to the network."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
    params = jax.device_put(params, replicated(mesh))
    jitted = jax.jit(apply)

    def see(images: np.ndarray) -> Seen:
        spare = -len(images) % len(devices)
        padded = np.concatenate([images, np.repeat(images[-1:], spare, axis=0)])
        split = NamedSharding(mesh, PartitionSpec("data"))
        seen = jitted(params, jax.device_put(prepare(jnp.asarray(padded)), split))
        return Seen(*(np.asarray(values)[: len(images)] for values in seen))

    return see


def _train(network: Classifier, examples: Examples) -> dict[str, np.ndarray]:
    """The parameters by path, and the accuracy on the tenth of the images that it has not seen."""
    most = min(_MOST_IMAGES, _MOST_BYTES // examples.examples[:1].nbytes)
    places = np.random.default_rng(0).permutation(len(examples.labels))[:most]
    held = max(1, len(places) // 10)
    held_places, places = np.sort(places[:held]), np.sort(places[held:])
    images, labels = jnp.asarray(examples.examples[places]), jnp.asarray(examples.labels[places])
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, _STEPS))
    params = network.init(jax.random.key(0), to_float(images[:1]))["params"]

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = network.apply({"params": params}, to_float(images)).logits  # type: ignore[union-attr]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(number: jax.Array, carry: Any) -> Any:
        params, state = carry
        batch = indices_at(len(places), _BATCH_SIZE, 0, number)
        gradient = jax.grad(loss)(params, images[batch], labels[batch])
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def fit(params: Any) -> Any:
        return jax.lax.fori_loop(0, _STEPS, step, (params, optimizer.init(params)))[0]

    params = jax.device_get(fit(params))
    see, right = _over_devices(_apply(network), params, to_float), 0
    for begin in range(0, held, 256):
        part = held_places[begin : begin + 256]
        guesses = np.asarray(see(examples.examples[part]).logits).argmax(axis=1)
        right += int((guesses == examples.labels[part]).sum())
    accuracy = {"accuracy": np.float64(right / held)}
    return traverse_util.flatten_dict(params, sep="/") | accuracy


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Keeps arrays in a cache, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing.", dir=path.parent) as scratch:
            beside = pathlib.Path(scratch) / path.name
            np.savez(beside, **arrays)  # type: ignore[arg-type]
            os.replace(beside, path)
    except OSError as error:
        logging.warning("%s cannot be written (%s): it is made again next time", path, error)


def read_arrays(path: pathlib.Path) -> dict[str, Any] | None:
    """What was kept, or None."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
