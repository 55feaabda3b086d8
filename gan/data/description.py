"""What a run must know of its data where these are not at hand; it is saved with the run."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan.annotations import matches
from gan.data.dataset import Dataset, Examples, Mixture, data_digest
from gan.metrics import vendi

_NUM_REFERENCES = 256
_MOST_VALUES = 2**31  # of one example


@dataclass(frozen=True)
class Description:
    """A dataset without its examples, in plain values that JSON can hold.

    Attributes:
      name: The dataset's name for messages.
      shape: Shape of one example.
      class_names: The name of each class.
      class_counts: How many examples each class has.
      digest: SHA-256 of all examples and labels, whatever path they are read from.
      means: Of a known mixture, the means of its Gaussians, `[modes, D]`; else none.
      std: Its standard deviation.
      diversity: What samples' diversity is compared with, a `gan.metrics.vendi.Reference` of some
        examples.
    """

    name: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    digest: str
    means: tuple[tuple[float, ...], ...] = ()
    std: float = 0.0
    diversity: tuple[float, float, int] = (1.0, 1.0, 1)

    def dataset(self, load: Callable[[], Examples]) -> Dataset:
        """Returns the dataset that this describes, whose examples `load` reads."""
        mixture = Mixture(np.array(self.means), self.std) if self.means else None
        return Dataset(
            self.name, self.shape, len(self.class_counts), load, mixture,
            class_names=self.class_names,
        )  # fmt: skip


def describe_dataset(dataset: Dataset, examples: Examples, seed: int = 0) -> Description:
    """Describes a dataset whose examples have been read.

    Args:
      dataset: The dataset.
      examples: Its examples.
      seed: Seed of the choice of examples with which the samples' diversity is compared.
    """
    chosen = np.random.default_rng(seed).permutation(len(examples.labels))[:_NUM_REFERENCES]
    counts = np.bincount(examples.labels, minlength=dataset.num_classes)
    mixture = dataset.mixture
    return Description(
        dataset.name,
        tuple(dataset.shape),
        tuple(dataset.names),
        tuple(counts.tolist()),
        data_digest(examples),
        () if mixture is None else tuple(map(tuple, mixture.means.tolist())),
        0.0 if mixture is None else float(mixture.std),
        tuple(vendi.make_reference(np.asarray(examples.examples[chosen]))),  # type: ignore[arg-type]
    )


def from_mapping(values: Mapping[str, Any]) -> Description:
    """Reads a description that was saved.

    Raises:
      ValueError: where it is none.
    """
    hints = {field.name: field.type for field in dataclasses.fields(Description)}
    values = {name: _as_tuple(value) for name, value in values.items()}  # JSON has lists
    needed = {"name", "shape", "class_names", "class_counts", "digest"}
    right_names = needed <= set(values) <= set(hints)
    if not right_names or not all(matches(values[name], hints[name]) for name in values):
        raise ValueError("it does not describe data")
    description = Description(**values)
    counts = description.class_counts
    if (
        len(description.class_names) != len(counts)
        or min(counts, default=-1) < 0
        or not sum(counts)
    ):
        raise ValueError("it describes no classes")
    if min(description.shape, default=0) < 1 or math.prod(description.shape) > _MOST_VALUES:
        raise ValueError(f"it describes examples of {_size(description.shape)} values")
    numbers = [description.std, *(x for mean in description.means for x in mean)]
    one_length = len({len(mean) for mean in description.means}) <= 1
    if not one_length or not all(map(math.isfinite, numbers)) or sum(counts) >= 2**63:
        raise ValueError("its numbers are none of data")
    return description


def changes(old: Description, new: Description) -> list[str]:
    """Returns what differs between the data of two descriptions, each a line; none where all is same."""
    if old.digest == new.digest:
        return []
    lines = []
    if old.shape != new.shape:
        lines.append(f"an example was {_size(old.shape)} and is {_size(new.shape)}")
    old_counts, new_counts = (
        dict(zip(own.class_names, own.class_counts, strict=True)) for own in (old, new)
    )
    if list(old_counts) != list(new_counts):
        lines.append(f"the classes were {_few(old_counts)} and are {_few(new_counts)}")
    if (before := sum(old_counts.values())) != (now := sum(new_counts.values())):
        lines.append(f"there were {before:,} examples and there are {now:,}")
    if list(old_counts) == list(new_counts) and len(old_counts) > 1:
        pairs = [(name, old_counts[name], new_counts[name]) for name in old_counts]
        other = [f"{name} ({then:,}, now {here:,})" for name, then, here in pairs if then != here]
        lines += [f"classes have other numbers of them: {_few(other)}"] if other else []
    return lines or ["as many examples of each class, with other values or in another order"]


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
