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

from gan.annotations import fields_match, matches
from gan.errors import UsageError
from gan.files import append_line, user_path
from gan.untrusted import parse_json, read_lines

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
      game: How metrics of the game are measured: their specs with all arguments, the loss and the batch
        size; empty where there are none.
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
    game: str = ""

    @property
    def fingerprint(self) -> str:
        """A short name for all of it, of eight hexadecimal digits."""
        fields = dataclasses.asdict(self)
        if not self.game:  # results from before there were such metrics keep their name
            del fields["game"]
        text = json.dumps(fields, sort_keys=True)
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
    try:
        lines = read_lines(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    for line in lines:
        if (result := _parse(line)) is not None:
            results[json.dumps(result.subject), result.protocol.fingerprint] = result
    return list(results.values())


def _parse(line: str) -> Result | None:
    """Returns the result on a line; None for one cut short by a crash, or another version's."""
    try:
        content = parse_json(line)
        json.dumps(content, ensure_ascii=False).encode()  # what no terminal can show is an error
        protocol = Protocol(**content["protocol"])
        result = Result(content["subject"], protocol, content["scores"], content["warnings"])
    except (ValueError, KeyError, TypeError):
        return None
    scores_fit = matches(result.scores, dict[str, float | None])
    others_fit = matches(result.subject, dict) and matches(result.warnings, list[str])
    return result if fields_match(protocol) and scores_fit and others_fit else None
