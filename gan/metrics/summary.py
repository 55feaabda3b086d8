"""What is kept of a set of examples in one pass over its features; metrics are computed from it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gan.data.dataset import Mixture

NUM_VECTORS = 10_000
"""Number of feature vectors that are kept, for metrics that look at pairs of examples."""
_NUM_PARTS = 10


@dataclass(frozen=True)
class Moments:
    """The mean and the scatter of a set of vectors in float64; those of two sets can be joined.

    Attributes:
      count: N, the number of vectors.
      mean: `[D]`.
      scatter: Sum over the set of (x - mean)(x - mean)^T, `[D, D]`.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Moments":
        """Computes the moments of vectors `[N, D]`, N >= 1."""
        vectors = vectors.astype(np.float64)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        return cls(len(vectors), mean, centred.T @ centred)

    @classmethod
    def of_nothing(cls) -> "Moments":
        """Returns the moments of the empty set, which joins with any other."""
        return cls(0, np.zeros(0), np.zeros((0, 0)))

    def join(self, other: "Moments") -> "Moments":
        """Returns the moments of both sets together, without cancellation.

        Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances", 1979.
        """
        if self.count == 0:
            return other
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift) * (self.count * other.count / count)
        mean = self.mean + shift * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased estimate, `[D, D]`; its rank is at most N - 1."""
        return self.scatter / max(1, self.count - 1)


@dataclass(frozen=True)
class Predictions:
    """Sums over the class predictions for a set of images; those of two sets can be joined.

    Attributes:
      count: N, the number of images.
      total: Sum of p(y|x), `[K]`.
      negentropy: Sum of p(y|x) log p(y|x) over images and classes.
    """

    count: int
    total: np.ndarray
    negentropy: float

    @classmethod
    def of(cls, logits: np.ndarray) -> "Predictions":
        """Computes the sums for logits `[N, K]`."""
        logs = _log_probabilities(logits)
        probabilities = np.exp(logs)
        return cls(len(logits), probabilities.sum(axis=0), float((probabilities * logs).sum()))

    def join(self, other: "Predictions") -> "Predictions":
        """Returns the sums over both sets."""
        return Predictions(
            self.count + other.count, self.total + other.total, self.negentropy + other.negentropy
        )


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns log p(y|x) in float64, `[N, K]`, K >= 1."""
    logits = logits.astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@dataclass(frozen=True)
class Summary:
    """What is kept of a set of examples.

    Attributes:
      moments: Moments of all feature vectors.
      vectors: The first feature vectors, `[at most NUM_VECTORS, D]`.
      predictions: Class predictions for ten equal parts of the set, in order; of samples only.
      classes: The likeliest class of each example, int `[N]`; of samples only.
      probabilities: Its probability, in [0, 1], `[N]`.
      labels: The class that each sample was drawn of, int `[N]`; None where it has none.
      points: All examples `[N, D]`, where they are points; of samples only.
      mixture: The distribution that real points are drawn from, where it is known.
    """

    moments: Moments = field(default_factory=Moments.of_nothing)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    predictions: tuple[Predictions, ...] = ()
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))
    labels: np.ndarray | None = None
    points: np.ndarray | None = None
    mixture: Mixture | None = None


def paired_vectors(real: Summary, fake: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first vectors of both sets, `[N, D]` each, as many as both have."""
    count = min(len(real.vectors), len(fake.vectors))
    return real.vectors[:count], fake.vectors[:count]


class Summarizer:
    """Makes the summary of a set that comes in batches.

    Args:
      count: N, the number of examples that the set will have.
    """

    def __init__(self, count: int):
        self._count, self._num_added = count, 0
        self._moments = Moments.of_nothing()
        self._predictions: dict[int, Predictions] = {}  # by part
        self._classes: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []
        self._points: list[np.ndarray] = []

    def add(self, examples: np.ndarray, vectors: np.ndarray, logits: np.ndarray) -> None:
        """Adds a batch.

        Args:
          examples: Images `[B, H, W, C]` or points `[B, D']`.
          vectors: Their features `[B, D]`.
          logits: Their class logits `[B, K]`; K = 0 where there are none.
        """
        self._moments = self._moments.join(Moments.of(vectors))
        for part, rows in self._parts(len(logits)):
            batch = Predictions.of(logits[rows])
            known = self._predictions.get(part)
            self._predictions[part] = batch if known is None else known.join(batch)
        if logits.shape[1]:
            self._classes.append(logits.argmax(axis=1))
            self._probabilities.append(np.exp(_log_probabilities(logits).max(axis=1)))
        if self._num_added < NUM_VECTORS:
            self._vectors.append(vectors[: NUM_VECTORS - self._num_added])
        if examples.ndim == 2:
            self._points.append(examples)
        self._num_added += len(examples)

    def summary(self) -> Summary:
        """Returns the summary, once all examples were added."""
        assert self._num_added == self._count
        return Summary(
            self._moments,
            np.concatenate(self._vectors),
            tuple(self._predictions.values()),
            np.concatenate([np.zeros(0, np.int64), *self._classes]),
            np.concatenate([np.zeros(0), *self._probabilities]),
            points=np.concatenate(self._points) if self._points else None,
        )

    def _parts(self, length: int) -> Iterator[tuple[int, slice]]:
        """Yields the parts of the set that the next examples belong to, with their rows."""
        places = self._num_added + np.arange(length)
        parts = np.minimum(places * _NUM_PARTS // self._count, _NUM_PARTS - 1)
        for part in np.unique(parts):
            rows = np.flatnonzero(parts == part)
            yield int(part), slice(rows[0], rows[-1] + 1)
