"""Training of the classifier in whose features images are compared."""

import dataclasses
import hashlib
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from gan.data.dataset import Examples, to_float
from gan.data.permutation import indices_at
from gan.models.classifier import Classifier
from gan.optimizers import OPTIMIZERS

_BATCH_SIZE = 256  # of held-out images
_CALL = 25  # steps between two looks at the loss


@dataclass(frozen=True)
class ClassifierTraining:
    """All that decides the weights of a classifier, besides the data.

    Attributes:
      max_steps: Greatest number of optimizer steps.
      max_epochs: Greatest number of times that an image is seen: fewer steps for few images.
      batch_size: Number of images in each step.
      done_loss: The training ends when the loss of a whole epoch is below this.
      optimizer: Spec of the optimizer; `{num_steps}` stands for the number of steps.
      holdout_divisor: One in this many images is held out, to measure the accuracy.
      max_images: Greatest number of images that are used.
      max_bytes: Greatest size of these images, as uint8.
      seed: Seed of the choice of images, the batches and the initial weights.
      width: Number of channels of the first convolution.
      num_features: Number of features.
      version: Number of this procedure, raised whenever the code changes the weights.
    """

    max_steps: int = 2_500
    max_epochs: int = 100
    batch_size: int = 64
    done_loss: float = 1e-4
    optimizer: str = "adam(cosine_decay_schedule(2e-3, {num_steps}))"
    holdout_divisor: int = 10
    max_images: int = 60_000
    max_bytes: int = 512 * 2**20
    seed: int = 0
    width: int = 32
    num_features: int = 128
    version: int = 2

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
          The parameters, rounded to float16, and the accuracy in [0, 1] on held-out images.
        """
        network = self.network(num_classes)
        limit = min(self.max_images, self.max_bytes // examples.examples[:1].nbytes)
        places = np.random.default_rng(self.seed).permutation(len(examples.labels))[:limit]
        num_held_out = max(1, len(places) // self.holdout_divisor)
        held_out, places = np.sort(places[:num_held_out]), np.sort(places[num_held_out:])
        params = self._fit(network, examples.examples[places], examples.labels[places])
        params = jax.tree.map(lambda array: np.asarray(array, np.float16), params)
        return params, _accuracy(network, params, examples, held_out)

    def _fit(self, network: Classifier, images: np.ndarray, labels: np.ndarray) -> Any:
        epoch = math.ceil(len(labels) / self.batch_size)  # in steps
        num_steps = min(self.max_steps, self.max_epochs * epoch)
        optimizer = OPTIMIZERS.build(self.optimizer.format(num_steps=num_steps))
        all_images, all_labels = jnp.asarray(images), jnp.asarray(labels)

        def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            logits = network.apply({"params": params}, to_float(images)).logits  # type: ignore[union-attr]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def step(number: jax.Array, carry: Any) -> Any:
            params, opt_state, total = carry
            batch = indices_at(len(labels), self.batch_size, self.seed, number)
            value, gradient = jax.value_and_grad(loss)(params, all_images[batch], all_labels[batch])
            updates, opt_state = optimizer.update(gradient, opt_state)
            return optax.apply_updates(params, updates), opt_state, total + value

        @jax.jit
        def fit(params: Any, opt_state: Any, begin: int, end: int) -> Any:
            params, opt_state, total = jax.lax.fori_loop(begin, end, step, (params, opt_state, 0.0))
            return params, opt_state, total / (end - begin)

        params = network.init(jax.random.key(self.seed), to_float(all_images[:1]))["params"]
        opt_state = optimizer.init(params)
        recent: deque[float] = deque(maxlen=math.ceil(epoch / _CALL))  # losses of the last epoch
        with tqdm(total=num_steps, unit=" steps", disable=None, leave=False) as bar:
            for begin in range(0, num_steps, _CALL):
                end = min(begin + _CALL, num_steps)
                params, opt_state, mean = fit(params, opt_state, begin, end)
                bar.update(end - begin)
                recent.append(float(mean))
                if len(recent) == recent.maxlen and max(recent) < self.done_loss:
                    break
        return params


def _accuracy(network: Classifier, params: Any, examples: Examples, places: np.ndarray) -> float:
    """Measures the accuracy in [0, 1] on the images at some places of a dataset."""

    @jax.jit
    def classify(params: Any, images: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda array: array.astype(jnp.float32), params)
        return network.apply({"params": params}, to_float(images)).logits.argmax(axis=1)  # type: ignore[union-attr]

    num_correct = 0
    for begin in range(0, len(places), _BATCH_SIZE):
        batch = places[begin : begin + _BATCH_SIZE]
        classes = np.asarray(classify(params, jnp.asarray(examples.examples[batch])))
        num_correct += int((classes == examples.labels[batch]).sum())
    return num_correct / len(places)
