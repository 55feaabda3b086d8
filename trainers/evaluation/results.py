"""Results of evaluations: scores together with the protocol by which they were measured."""

import dataclasses
import hashlib
import json
import math
import pathlib
import time
from dataclasses import dataclass
from typing import Any

from absl import logging

from gan.files import append_line, user_path

_NAME = "evaluations.jsonl"


@dataclass(frozen=True)
class Protocol:
    """All that two results must have in common to be comparable.

    Attributes:
      features: Name of the network in whose features examples are compared; `points` for points
        that are compared with their mixture alone.
      features_digest: SHA-256 of its weights.
      resize: How images are brought to its size.
      dataset: Spec of the real examples, with the split.
      data_digest: SHA-256 of these examples.
      num_real: Number of real examples: all of the dataset's.
      num_fake: Number of samples.
      num_pairs: Number of real examples, and of samples, for the metrics of pairs of them.
      quantisation: Type to which the samples are rounded before they are compared; `none` for points.
      seed: Seed of the latents; None for images from files.
      classes: Which classes are drawn: those of the `data`, in their proportions, `equal` numbers of
        each that has examples, or `none` where the generator is not conditional. Older results had the
        classes `in turn`, also those without examples.
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
    classes: str = "in turn"

    @property
    def fingerprint(self) -> str:
        """A short name for all of it, of eight hexadecimal digits."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Result:
    """Scores, and what was scored.

    Attributes:
      subject: `{"step": ..., "weights": ...}` of a run, or `{"images": ...}`.
      protocol: How the scores were measured.
      scores: By name: `fid`, `kid`, `kid_std`, `inception_score`, ...
      warnings: Reasons not to rely on the scores.
    """

    subject: dict[str, Any]
    protocol: Protocol
    scores: dict[str, float]
    warnings: list[str]

    def write(self, workdir: pathlib.Path) -> None:
        """Appends the result to the folder's `evaluations.jsonl`; warns where that fails."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "fingerprint": self.protocol.fingerprint,
            **dataclasses.asdict(self),
        }
        line["scores"] = {  # JSON has no infinity and no NaN
            name: value if math.isfinite(value) else None for name, value in self.scores.items()
        }
        try:
            append_line(workdir / _NAME, json.dumps(line))
        except OSError as error:
            logging.warning("%s cannot be written: %s", workdir / _NAME, error)


def read_results(workdir: str | pathlib.Path) -> list[Result]:
    """Reads the results in a folder's `evaluations.jsonl`; of repeated ones, the last."""
    path = user_path(workdir) / _NAME
    results = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            result = Result(
                line["subject"], Protocol(**line["protocol"]), line["scores"], line["warnings"]
            )
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a crash, or another version's
        results[json.dumps(result.subject), result.protocol.fingerprint] = result
    return list(results.values())
