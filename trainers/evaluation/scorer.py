"""Scores of samples, against a dataset's examples or the distribution that these are drawn from."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from gan.data.dataset import Dataset, Examples, data_digest
from gan.errors import UsageError
from gan.files import cache_folder, read_arrays, write_arrays
from gan.metrics import Metric, Need, Summary, summary
from gan.metrics.game_metric import GameMetric, GameSetting, Measure, describe
from gan.metrics.metric import check_scores, choose_metrics
from gan.metrics.summary import Moments, Summarizer
from gan.models.classifier import FeatureOutput
from gan.players import Pair, PlayerState
from gan.trainers.evaluation.features import FeatureExtractor, FeatureNetwork, inputs_of
from gan.trainers.evaluation.results import Protocol, Result

_MIN_EXAMPLES = 20
_NO_FEATURES = FeatureExtractor(
    "none", "", "none", lambda examples: FeatureOutput(examples, examples)
)
_CHUNK_SIZE = 1_024  # examples between two updates of the sums


class Scorer:
    """Computes metrics of samples that should be like the examples of a dataset.

    Args:
      dataset: The real examples.
      spec: The dataset's spec, for the protocol.
      features: The network in whose features examples are compared.
      num_fake: Number of samples that are scored at a time.
      seed: Seed of the latents that they are drawn from; None where they are not.
      metrics: Specs of metrics; None stands for all that suit the dataset and the features.
      classes: In which proportions their classes are drawn; see `Protocol`.
      setting: The run of the samples, for metrics of its game; None where they are not a run's.
      labelled: Whether each sample has a label, of the dataset's classes.

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
        setting: GameSetting | None = None,
        labelled: bool = False,
    ):
        provided, inputs = features.provides(dataset), inputs_of(features, dataset, labelled)
        if setting is not None:
            inputs |= {Need.PLAYERS}
        chosen = choose_metrics(metrics, inputs, f"{spec} with features = {features.name!r}")
        self._metrics = {name: own for name, own in chosen.items() if isinstance(own, Metric)}
        self._of_game = {name: own for name, own in chosen.items() if isinstance(own, GameMetric)}
        if num_fake < _MIN_EXAMPLES:
            raise UsageError(f"at least {_MIN_EXAMPLES} samples can be scored, given {num_fake}")
        # Without metrics of samples there are none, and no features either.
        self._extractor = features.extractor(dataset) if self._metrics else _NO_FEATURES
        num_fake = num_fake if self._metrics else 0
        # The mixture of points says all of them, but to metrics of the game.
        examples = _load(dataset, spec) if provided or self._of_game else None
        compared = examples if provided or not self._metrics else None
        num_real = 0 if compared is None else len(compared.labels)
        self._dataset = dataset
        self.warnings = self._extractor.warnings
        self.protocol = Protocol(
            features=self._extractor.name,
            features_digest=self._extractor.digest,
            resize=self._extractor.resize,
            dataset=spec,
            data_digest="" if compared is None else data_digest(compared),
            num_real=num_real,
            num_fake=num_fake,
            num_pairs=min(summary.NUM_VECTORS, num_fake, num_real),
            quantisation="uint8" if len(dataset.shape) == 3 else "none",
            seed=seed,
            classes=classes,
            game="; ".join(describe(name, own, setting) for name, own in self._of_game.items()),
        )
        self._measures: dict[str, Measure] = {}
        if examples is not None and setting is not None and seed is not None:
            self._measures = {
                name: metric.prepare(setting, examples, seed)
                for name, metric in self._of_game.items()
            }
        real = Summary()
        if self._metrics and compared is not None:
            real = self._summarize_real(compared)
        self._real = dataclasses.replace(real, mixture=dataset.mixture)

    def score(
        self,
        samples: Iterable[np.ndarray],
        subject: dict[str, Any],
        players: Pair[PlayerState] | None = None,
        labels: np.ndarray | None = None,
    ) -> Result:
        """Scores samples, and the players that they are of.

        Args:
          samples: `protocol.num_fake` of them, in batches: uint8 images `[B, H, W, C]` or float32
            points `[B, D]`.
          subject: What the samples are of, for the result.
          players: The run's, without the states of their optimizers, where metrics are of the game.
          labels: The class that each sample was drawn of, int `[N]`, where they are labelled.

        Raises:
          UsageError: for samples of another shape or type than the data's.
        """
        checked = (self._checked(batch) for batch in samples)
        scores: dict[str, float] = {}
        warnings = list(self.warnings)
        if self._metrics:
            fake = _summarize(self._extractor, checked, self.protocol.num_fake)
            fake = dataclasses.replace(fake, labels=labels)
        for name, metric in self._metrics.items():
            scores |= check_scores(name, metric, partial(metric.compute, self._real, fake))
            warnings += metric.warnings(self._real, fake)
        for name, measure in self._measures.items():
            assert players is not None
            measured = partial(measure, players, subject["step"])
            found = check_scores(name, self._of_game[name], measured)
            for warning in self._of_game[name].warnings(found):
                logging.warning("step %d: %s", subject["step"], warning)
                warnings.append(warning)
            scores |= found
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
