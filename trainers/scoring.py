"""Scores of images that can be compared: each with the protocol by which it was measured."""

import dataclasses
import hashlib
import json
import math
import pathlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any
from typing import Protocol as Interface

import jax
import numpy as np
from absl import logging

from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError, nearest
from gan.evaluation import (
    Marginals,
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    mixture_scores,
    neighbour_scores,
)
from gan.trainers.features import (
    Extractor,
    Features,
    data_digest,
    read_arrays,
    write_arrays,
)
from gan.user_cache import cache_folder

METRICS = ("fid", "kid", "is", "prdc")
_KEPT = 10_000  # features for what looks at pairs of images
_PARTS = 10  # of the Inception Score
_FEWEST = 20
_CHUNK = 1_024  # images between two updates of the sums


@dataclass(frozen=True)
class Protocol:
    """All that two results must have in common to be compared.

    Attributes:
      features: The network.
      features_digest: SHA-256 of its weights.
      resize: How images come to its size.
      dataset: Spec of the real images, with the split.
      data_digest: SHA-256 of these images.
      num_real: How many of them: all.
      num_fake: How many samples.
      num_pairs: Of how many real and how many fake ones KID, precision and the like are.
      quantisation: Of the samples, before they are looked at.
      seed: Of the latents; None for images that were there.
    """

    features: str
    features_digest: str
    resize: str
    dataset: str
    data_digest: str
    num_real: int
    num_fake: int
    num_pairs: int
    quantisation: str
    seed: int | None

    @property
    def fingerprint(self) -> str:
        """A short name for all of it."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Result:
    """Scores, and what was scored.

    Attributes:
      subject: `{"step": ..., "weights": ...}` of a run, or `{"images": ...}`.
      protocol: How.
      scores: By name: `fid`, `kid`, `kid_std`, `inception_score`, ...
      warnings: Why not to trust them too much.
    """

    subject: dict[str, Any]
    protocol: Protocol
    scores: dict[str, float]
    warnings: list[str]

    def write(self, workdir: pathlib.Path) -> None:
        """Appends it to the folder's `evaluations.jsonl`; warns where that cannot be."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "fingerprint": self.protocol.fingerprint,
            **dataclasses.asdict(self),
        }
        line["scores"] = {  # JSON has no infinity and no NaN
            name: value if math.isfinite(value) else None for name, value in self.scores.items()
        }
        try:
            with (workdir / "evaluations.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            logging.warning("%s cannot be written: %s", workdir / "evaluations.jsonl", error)


@dataclass(frozen=True)
class Summary:
    """What is kept of a set of images, in one pass over its features.

    Attributes:
      moments: Of the features.
      parts: Predictions, in parts one after the other.
      vectors: The first features, `[at most 10,000, D]`.
    """

    moments: Moments
    parts: list[Marginals]
    vectors: np.ndarray


class Scorer(Interface):
    """Scores samples of one kind.

    Attributes:
      protocol: How.
      shape: Of a sample.
    """

    protocol: Protocol
    shape: tuple[int, ...]

    def score(self, samples: Iterable[np.ndarray], subject: dict[str, Any]) -> Result:
        """Scores `protocol.num_fake` samples that come in batches."""


class PointScorer:
    """Scores points against the mixture from which the data were drawn."""

    def __init__(self, dataset: Dataset, spec: str, num_fake: int, seed: int | None):
        self.shape = dataset.shape
        self._mixture = dataset.mixture
        self.protocol = Protocol(
            features="points", features_digest="", resize="none", dataset=spec, data_digest="",
            num_real=0, num_fake=num_fake, num_pairs=0, quantisation="none", seed=seed,
        )  # fmt: skip

    def score(self, samples: Iterable[np.ndarray], subject: dict[str, Any]) -> Result:
        """Scores points, float32 `[B, D]`."""
        assert self._mixture is not None
        points = np.concatenate(list(samples))
        return Result(subject, self.protocol, mixture_scores(points, self._mixture), [])


class ImageScorer:
    """Scores images against a dataset's.

    Args:
      dataset: The real images.
      spec: What names it.
      features: In which they are compared.
      num_fake: How many images will be scored at a time.
      seed: Of the latents from which they are drawn.
      metrics: Of `METRICS`.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: str,
        features: Features,
        num_fake: int,
        seed: int | None,
        metrics: tuple[str, ...],
    ):
        examples = dataset.load()
        if len(examples.labels) < _FEWEST:
            raise UsageError(
                f"{spec}: at least {_FEWEST} real images are needed, there are "
                f"{len(examples.labels)}"
            )
        self.shape, self._metrics = dataset.shape, metrics
        self.extractor = features.extractor(dataset)
        self.protocol = Protocol(
            features=self.extractor.name,
            features_digest=self.extractor.digest,
            resize=self.extractor.resize,
            dataset=spec,
            data_digest=data_digest(examples),
            num_real=len(examples.labels),
            num_fake=num_fake,
            num_pairs=min(_KEPT, num_fake, len(examples.labels)),
            quantisation="uint8",
            seed=seed,
        )
        self._real = _real_summary(self.extractor, examples, self.protocol.data_digest)

    def score(self, samples: Iterable[np.ndarray], subject: dict[str, Any]) -> Result:
        """Scores images, uint8 `[B, H, W, C]`.

        Raises:
          UsageError: for images of another shape than the data's.
        """
        batches = (self._checked(batch) for batch in samples)
        fake, real = _summarize(self.extractor, batches, self.protocol.num_fake), self._real
        pairs = self.protocol.num_pairs
        scores: dict[str, float] = {}
        if "fid" in self._metrics:
            scores["fid"] = frechet_distance(real.moments, fake.moments)
        if "kid" in self._metrics:
            kid = kernel_distance(real.vectors[:pairs], fake.vectors[:pairs])
            scores |= dict(zip(("kid", "kid_std"), kid, strict=True))
            if math.isnan(scores["kid_std"]):
                del scores["kid_std"]
        if "is" in self._metrics:
            mean, std = inception_score(fake.parts)
            scores["inception_score"], scores["inception_score_std"] = mean, std
        if "prdc" in self._metrics:
            scores |= neighbour_scores(real.vectors[:pairs], fake.vectors[:pairs])
        return Result(subject, self.protocol, scores, self._warnings())

    def _checked(self, images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != self.shape or images.dtype != np.uint8:
            raise UsageError(
                f"images are {images.dtype} {_size(images.shape[1:])}, and those of "
                f"{self.protocol.dataset} are uint8 {_size(self.shape)}"
            )
        return images

    def _warnings(self) -> list[str]:
        features, fewest = (
            len(self._real.moments.mean),
            min(self.protocol.num_fake, self.protocol.num_real),
        )
        if fewest <= features:
            warning = f"{fewest:,} images are too few for a covariance of {features:,} features"
            return [f"{warning}: it has not full rank, and the FID is biased"]
        return []


def make_scorer(
    dataset: Dataset,
    spec: str,
    features: Features,
    num_fake: int,
    seed: int | None,
    metrics: tuple[str, ...] = METRICS,
) -> Scorer:
    """The scorer for samples that should be like a dataset's.

    Args:
      dataset: The real examples.
      spec: What names it.
      features: In which images are compared.
      num_fake: How many samples will be scored at a time.
      seed: Of the latents from which they are drawn, if they are.
      metrics: Of `METRICS`; for images.

    Raises:
      UsageError: for an unknown metric, too few samples, or features that these data cannot have.
    """
    check_metrics(metrics)
    if num_fake < _FEWEST:
        raise UsageError(f"at least {_FEWEST} samples can be scored, given {num_fake}")
    if dataset.mixture is not None:
        return PointScorer(dataset, spec, num_fake, seed)
    return ImageScorer(dataset, spec, features, num_fake, seed, metrics)


def check_metrics(metrics: Iterable[str]) -> None:
    """Raises UsageError for a metric that there is not."""
    for metric in metrics:
        if metric not in METRICS:
            hint = nearest(metric, METRICS) or f"; known: {', '.join(METRICS)}"
            raise UsageError(f"unknown metric {metric!r}{hint}")


def _real_summary(extractor: Extractor, examples: Examples, digest: str) -> Summary:
    """Of all examples, in random order; kept in the user's cache."""
    text = f"{extractor.name} {extractor.digest} {extractor.resize} {digest} {_KEPT}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_folder("real") / f"{key}.npz"
    if (found := read_arrays(path)) is not None:
        moments = Moments(int(found["count"]), found["mean"], found["scatter"])
        return Summary(moments, [], found["vectors"])
    count = len(examples.labels)
    logging.info("looking at %s real images, once", f"{count:,}")
    order = np.random.default_rng(0).permutation(count)
    batches = (examples.examples[order[i : i + _CHUNK]] for i in range(0, count, _CHUNK))
    summary = _summarize(extractor, shown(batches, count), count)
    arrays = dataclasses.asdict(summary.moments) | {"vectors": summary.vectors}
    write_arrays(path, arrays)
    return summary


def shown(batches: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The same batches, with a progress bar where a person looks on."""
    from tqdm import tqdm

    with tqdm(total=count, unit=" images", disable=None, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def _summarize(extractor: Extractor, batches: Iterable[np.ndarray], count: int) -> Summary:
    """One pass; of the features only the first are kept."""
    moments: list[Moments] = []
    parts: dict[int, Marginals] = {}
    kept, seen = [], 0
    for images in _even(batches, _CHUNK):
        size = extractor.batch_size * jax.local_device_count()
        looks = [extractor.see(images[i : i + size]) for i in range(0, len(images), size)]
        vectors, logits = (np.concatenate(values) for values in zip(*looks, strict=True))
        moments = [reduce(Moments.join, [*moments, Moments.of(vectors)])]
        for part, rows in _split(seen, len(images), count):
            own = Marginals.of(logits[rows])
            parts[part] = parts[part].join(own) if part in parts else own
        if seen < _KEPT:
            kept.append(vectors[: _KEPT - seen])
        seen += len(images)
    assert seen == count
    return Summary(moments[0], list(parts.values()), np.concatenate(kept))


def _split(begin: int, length: int, count: int) -> Iterator[tuple[int, slice]]:
    """Which rows of a batch belong to which of the parts of all."""
    part = np.minimum((begin + np.arange(length)) * _PARTS // count, _PARTS - 1)
    for number in np.unique(part):
        rows = np.flatnonzero(part == number)
        yield int(number), slice(rows[0], rows[-1] + 1)


def _even(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same images in batches of one size, but for the last: the network is compiled once."""
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
