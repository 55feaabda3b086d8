"""Training of the classifier in whose features images are compared."""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.data.dataset import Examples, to_float
from gan.data.permutation import indices_at
from gan.models.classifier import Classifier
from gan.optimizers import OPTIMIZERS

_BATCH_SIZE = 256  # of held-out images


@dataclass(frozen=True)
class ClassifierTraining:
    """All that decides the weights of a classifier, besides the data.

    Attributes:
      num_steps: Number of optimizer steps.
      batch_size: Number of images in each step.
      optimizer: Spec of the optimizer, with the schedule of its learning rate.
      holdout_divisor: One in this many images is held out, to measure the accuracy.
      max_images: Greatest number of images that are used.
      max_bytes: Greatest size of these images, as uint8.
      seed: Seed of the choice of images, the batches and the initial weights.
      width: Number of channels of the first convolution.
      num_features: Number of features.
      version: Number of this procedure, raised whenever the code changes the weights.
    """

    num_steps: int = 2_500
    batch_size: int = 64
    optimizer: str = "adam(cosine_decay_schedule(2e-3, 2_500))"
    holdout_divisor: int = 10
    max_images: int = 60_000
    max_bytes: int = 512 * 2**20
    seed: int = 0
    width: int = 32
    num_features: int = 128
    version: int = 1

    def cache_key(self, data_digest: str, num_classes: int) -> str:
        """Returns a name for the classifier that this training makes of a dataset.

        Args:
          data_digest: SHA-256 of the images and labels.
          num_classes: Number of classes that a label can have.
        """
        text = repr((data_digest, num_classes, dataclasses.asdict(self)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def network(self, num_classes: int) -> Classifier:
        """Returns the untrained network."""
        return Classifier(num_classes, self.width, self.num_features)

    def run(self, examples: Examples, num_classes: int) -> tuple[Any, float]:
        """Trains a classifier.

        Args:
          examples: Images, with labels in [0, num_classes).
          num_classes: Number of classes.

        Returns:
          The parameters, and the accuracy in [0, 1] on held-out images.
        """
        network = self.network(num_classes)
        limit = min(self.max_images, self.max_bytes // examples.examples[:1].nbytes)
        places = np.random.default_rng(self.seed).permutation(len(examples.labels))[:limit]
        num_held_out = max(1, len(places) // self.holdout_divisor)
        held_out, places = np.sort(places[:num_held_out]), np.sort(places[num_held_out:])
        params = self._fit(network, examples.examples[places], examples.labels[places])
        return params, _accuracy(network, params, examples, held_out)

    def _fit(self, network: Classifier, images: np.ndarray, labels: np.ndarray) -> Any:
        optimizer = OPTIMIZERS.build(self.optimizer)
        all_images, all_labels = jnp.asarray(images), jnp.asarray(labels)
        params = network.init(jax.random.key(self.seed), to_float(all_images[:1]))["params"]

        def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            logits = network.apply({"params": params}, to_float(images)).logits  # type: ignore[union-attr]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def step(number: jax.Array, carry: Any) -> Any:
            params, opt_state = carry
            batch = indices_at(len(labels), self.batch_size, self.seed, number)
            gradient = jax.grad(loss)(params, all_images[batch], all_labels[batch])
            updates, opt_state = optimizer.update(gradient, opt_state)
            return optax.apply_updates(params, updates), opt_state

        @jax.jit
        def fit(params: Any) -> Any:
            return jax.lax.fori_loop(0, self.num_steps, step, (params, optimizer.init(params)))[0]

        return jax.device_get(fit(params))


def _accuracy(network: Classifier, params: Any, examples: Examples, places: np.ndarray) -> float:
    """Measures the accuracy in [0, 1] on the images at some places of a dataset."""

    @jax.jit
    def classify(params: Any, images: jax.Array) -> jax.Array:
        return network.apply({"params": params}, to_float(images)).logits.argmax(axis=1)  # type: ignore[union-attr]

    num_correct = 0
    for begin in range(0, len(places), _BATCH_SIZE):
        batch = places[begin : begin + _BATCH_SIZE]
        classes = np.asarray(classify(params, jnp.asarray(examples.examples[batch])))
        num_correct += int((classes == examples.labels[batch]).sum())
    return num_correct / len(places)
