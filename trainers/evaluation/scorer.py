"""Scores of samples, against a dataset's examples or the distribution that these are drawn from."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from gan.data.dataset import Dataset, Examples, data_digest
from gan.errors import UsageError
from gan.files import cache_folder, read_arrays, write_arrays
from gan.metrics import Summary, summary
from gan.metrics.metric import choose_metrics, compute
from gan.metrics.summary import Moments, Summarizer
from gan.trainers.evaluation.features import FeatureExtractor, FeatureNetwork, inputs_of
from gan.trainers.evaluation.results import Protocol, Result

_MIN_EXAMPLES = 20
_CHUNK_SIZE = 1_024  # examples between two updates of the sums


class Scorer:
    """Computes metrics of samples that should be like the examples of a dataset.

    Args:
      dataset: The real examples.
      spec: The dataset's spec, for the protocol.
      features: The network in whose features examples are compared.
      num_fake: Number of samples that are scored at a time.
      seed: Seed of the latents that they are drawn from; None where they are not.
      metrics: Names of metrics; None stands for all that suit the dataset and the features.
      classes: In which proportions their classes are drawn; see `Protocol`.

    Attributes:
      protocol: How scores are measured.
      warnings: Reasons not to rely on any of them, whatever the samples.

    Raises:
      UsageError: for a metric that is unknown or does not suit, for too few samples or real
        examples, or for features that do not suit the dataset.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: str,
        features: FeatureNetwork,
        num_fake: int,
        seed: int | None,
        metrics: Iterable[str] | None = None,
        classes: str = "none",
    ):
        provided = features.provides(dataset)
        inputs = inputs_of(features, dataset)
        source = f"{spec} with features = {features.name!r}"
        self._metrics = choose_metrics(metrics, inputs, source)
        if num_fake < _MIN_EXAMPLES:
            raise UsageError(f"at least {_MIN_EXAMPLES} samples can be scored, given {num_fake}")
        examples = _load(dataset, spec) if provided else None  # else the mixture says all
        num_real = 0 if examples is None else len(examples.labels)
        self._dataset, self._extractor = dataset, features.extractor(dataset)
        self.warnings = self._extractor.warnings
        self.protocol = Protocol(
            features=self._extractor.name,
            features_digest=self._extractor.digest,
            resize=self._extractor.resize,
            dataset=spec,
            data_digest="" if examples is None else data_digest(examples),
            num_real=num_real,
            num_fake=num_fake,
            num_pairs=min(summary.NUM_VECTORS, num_fake, num_real),
            quantisation="uint8" if len(dataset.shape) == 3 else "none",
            seed=seed,
            classes=classes,
        )
        real = Summary() if examples is None else self._summarize_real(examples)
        self._real = dataclasses.replace(real, mixture=dataset.mixture)

    def score(self, samples: Iterable[np.ndarray], subject: dict[str, Any]) -> Result:
        """Scores samples.

        Args:
          samples: `protocol.num_fake` of them, in batches: uint8 images `[B, H, W, C]` or float32
            points `[B, D]`.
          subject: What the samples are of, for the result.

        Raises:
          UsageError: for samples of another shape or type than the data's.
        """
        checked = (self._checked(batch) for batch in samples)
        fake = _summarize(self._extractor, checked, self.protocol.num_fake)
        scores: dict[str, float] = {}
        warnings = list(self.warnings)
        for name, metric in self._metrics.items():
            scores |= compute(name, metric, self._real, fake)
            warnings += metric.warnings(self._real, fake)
        return Result(subject, self.protocol, scores, warnings)

    def _checked(self, samples: np.ndarray) -> np.ndarray:
        shape = self._dataset.shape
        kind, dtype = ("images", "uint8") if len(shape) == 3 else ("points", "float32")
        if samples.shape[1:] != shape or samples.dtype != dtype:
            raise UsageError(
                f"{kind} are {samples.dtype} {_size(samples.shape[1:])}, and those of "
                f"{self.protocol.dataset} are {dtype} {_size(shape)}"
            )
        return samples

    def _summarize_real(self, examples: Examples) -> Summary:
        """Summarizes all examples, in random order; the result is kept in the user's cache."""
        extractor, data = self._extractor, self.protocol.data_digest
        text = (
            f"{extractor.name} {extractor.digest} {extractor.resize} {data} {summary.NUM_VECTORS}"
        )
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = cache_folder("real") / f"{key}.npz"
        if (arrays := read_arrays(path)) is None:
            count = len(examples.labels)
            logging.info("extracting features of %s real examples, once", f"{count:,}")
            order = np.random.default_rng(0).permutation(count)
            batches = (
                examples.examples[order[begin : begin + _CHUNK_SIZE]]
                for begin in range(0, count, _CHUNK_SIZE)
            )
            real = _summarize(extractor, with_progress(batches, count), count)
            arrays = dataclasses.asdict(real.moments) | {"vectors": real.vectors}
            write_arrays(path, arrays)
        moments = Moments(int(arrays["count"]), arrays["mean"], arrays["scatter"])
        return Summary(moments, arrays["vectors"])


def with_progress(batches: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Yields the same batches, `count` examples in all, with a progress bar on a terminal."""
    with tqdm(total=count, unit=" images", disable=None, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def _load(dataset: Dataset, spec: str) -> Examples:
    """Loads the real examples; raises UsageError where they are too few."""
    examples = dataset.load()
    if len(examples.labels) < _MIN_EXAMPLES:
        raise UsageError(
            f"{spec}: at least {_MIN_EXAMPLES} real images are needed, there are "
            f"{len(examples.labels)}"
        )
    return examples


def _summarize(extractor: FeatureExtractor, batches: Iterable[np.ndarray], count: int) -> Summary:
    """Summarizes `count` examples in one pass."""
    summarizer = Summarizer(count)
    for examples in _even_batches(batches, _CHUNK_SIZE):
        output = extractor.extract(examples)
        summarizer.add(examples, np.asarray(output.vectors), np.asarray(output.logits))
    return summarizer.summary()


def _even_batches(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yields the same examples in batches of one size, but for the last.

    A network is then compiled once.
    """
    rest: list[np.ndarray] = []
    for batch in batches:
        rest.append(batch)
        if sum(map(len, rest)) >= size:
            joined = np.concatenate(rest)
            whole = len(joined) - len(joined) % size
            yield from np.split(joined[:whole], whole // size)
            rest = [joined[whole:]]
    if len(last := np.concatenate(rest)):
        yield last


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
