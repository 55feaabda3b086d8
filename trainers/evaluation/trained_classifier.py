"""The classifier of a dataset: it comes with the package, is in the user's cache, or is trained now.

Two machines train classifiers that differ in the last bits, and then their protocols differ. Those
of a few datasets come with the package; after a change of `ClassifierTraining`, make them anew:

python -m gan.trainers.evaluation.trained_classifier --data_dir DIR digits mnist
"""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from absl import logging
from flax import traverse_util

from gan import cli
from gan.data import DATASETS
from gan.data.dataset import Dataset, Examples, data_digest
from gan.files import cache_folder, read_arrays, replacing, write_arrays
from gan.models.classifier import Classifier
from gan.trainers.evaluation.classifier_training import ClassifierTraining

CLASSIFIER_TRAINING = ClassifierTraining()
SHIPPED = pathlib.Path(__file__).with_name("classifiers")
"""Folder of the classifiers that come with the package, `<dataset>-<key>.npz`."""


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier that is ready to use.

    Attributes:
      network: The network.
      params: Its parameters.
      accuracy: Share of held-out images that it recognises.
      guessed: Share that a guess of the largest class recognises.
    """

    network: Classifier
    params: Any
    accuracy: float
    guessed: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """A warning where it is nearer to guessing than to perfection."""
        if self.accuracy >= (1 + self.guessed) / 2:
            return ()
        warning = (
            f"the classifier recognises only {self.accuracy:.0%} of held-out images (the largest class "
            f"is {self.guessed:.0%} of all): its features say little about this dataset"
        )
        return (warning,)


def trained_classifier(dataset: Dataset) -> TrainedClassifier:
    """Returns the classifier of a dataset of images with labels; says how well it reads them."""
    examples = dataset.load()
    key = CLASSIFIER_TRAINING.cache_key(data_digest(examples), dataset.num_classes)
    cached = cache_folder("classifiers") / f"{key}.npz"
    arrays = next(map(read_arrays, SHIPPED.glob(f"*-{key}.npz")), None) or read_arrays(cached)
    if arrays is None:
        arrays = _train(dataset, examples)
        write_arrays(cached, arrays)
    accuracy = float(arrays.pop("accuracy"))
    logging.info(
        "the classifier of %s recognises %.2f%% of held-out images", dataset.name, 100 * accuracy
    )
    guessed = float(np.bincount(examples.labels).max() / len(examples.labels))
    network = CLASSIFIER_TRAINING.network(dataset.num_classes)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    params = traverse_util.unflatten_dict(arrays, sep="/")
    return TrainedClassifier(network, params, accuracy, guessed)


def _train(dataset: Dataset, examples: Examples) -> dict[str, np.ndarray]:
    """Returns the parameters by their paths, and the accuracy."""
    logging.info("training a classifier of %s, once", dataset.name)
    params, accuracy = CLASSIFIER_TRAINING.run(examples, dataset.num_classes)
    return traverse_util.flatten_dict(params, sep="/") | {"accuracy": np.float64(accuracy)}


def main(argv: Sequence[str]) -> None:
    """Trains the classifiers that come with the package, and writes them into it."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("datasets", nargs="+", metavar="SPEC", help="digits, mnist, ...")
    parser.add_argument("--data_dir", metavar="DIR", help="folder of the TFDS datasets")
    flags = parser.parse_args(argv)
    cli.log_to_terminal()
    for spec in flags.datasets:
        dataset = DATASETS.build(spec, data_dir=flags.data_dir)
        examples = dataset.load()
        key = CLASSIFIER_TRAINING.cache_key(data_digest(examples), dataset.num_classes)
        arrays = _train(dataset, examples)
        for old in SHIPPED.glob(f"{dataset.name}-*.npz"):
            old.unlink()
        with replacing(SHIPPED / f"{dataset.name}-{key}.npz") as beside, beside.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    cli.run(main)
