"""Results as a table, in which nothing stands unmarked beside what was measured in another way."""

import dataclasses
import json
import pathlib
from typing import Any

from gan.trainers.scoring import Protocol, Result

_UNCERTAIN = {"kid": "kid_std", "inception_score": "inception_score_std"}
_DIGITS = {"fid": "z.3f", "kid": ".4g", "inception_score": ".3f", "modes_covered": ".0f"}


def read(workdir: pathlib.Path) -> list[Result]:
    """What `evaluations.jsonl` holds; of what was measured again, the last."""
    path = workdir / "evaluations.jsonl"
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


def table(results: list[Result], now: list[Result]) -> str:
    """All results, and what the protocol was; another protocol's are marked.

    Args:
      results: Of now and of earlier.
      now: At least one; all of one protocol.
    """
    protocol = now[0].protocol
    scores = [name for name in now[0].scores if name not in _UNCERTAIN.values()]
    subjects = list(now[0].subject)
    shown = [one for one in results if list(one.subject) == subjects]
    marks = {protocol.fingerprint: ""}
    for one in shown:
        marks.setdefault(one.protocol.fingerprint, "*" * len(marks))
    shown.sort(
        key=lambda one: (marks[one.protocol.fingerprint], str(one.subject.get("step")).zfill(12))
    )
    rows = [[*subjects, *scores]]
    for one in shown:
        mark = marks[one.protocol.fingerprint]
        rows.append(
            [*(_words(one.subject[name]) for name in subjects)]
            + [_number(one.scores, name) + mark for name in scores]
        )
    lines = [_line(row, rows) for row in rows]
    lines += ["", f"protocol {protocol.fingerprint}: {_said(protocol)}"]
    others = {one.protocol.fingerprint: one.protocol for one in shown}
    for fingerprint, mark in marks.items():
        if mark:
            lines.append(
                f"{mark} protocol {fingerprint}: {_difference(others[fingerprint], protocol)}"
            )
    warnings = dict.fromkeys(warning for one in now for warning in one.warnings)
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)])


def _number(scores: dict[str, float], name: str) -> str:
    if scores.get(name) is None:
        return "-"
    text = f"{scores[name]:{_DIGITS.get(name, '.4f')}}"
    if (spread := _UNCERTAIN.get(name)) in scores:
        text += f" +- {scores[spread]:{_DIGITS[name]}}"
    return text


def _words(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _line(row: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(other[i]) for other in rows) for i in range(len(row))]
    return "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))


def _said(protocol: Protocol) -> str:
    """All of it, in a line."""
    drawn = "" if protocol.seed is None else f", latents of seed {protocol.seed}"
    if protocol.features == "points":
        return f"{protocol.num_fake:,} points against {protocol.dataset}{drawn}"
    return (
        f"{protocol.features} {protocol.features_digest[:8]}, resize {protocol.resize}; "
        f"{protocol.num_fake:,} images as {protocol.quantisation}{drawn}; "
        f"{protocol.num_real:,} real ones, {protocol.dataset} {protocol.data_digest[:8]}; "
        f"KID and neighbours of {protocol.num_pairs:,}"
    )


def _difference(other: Protocol, protocol: Protocol) -> str:
    """In what another protocol is another."""
    fields = dataclasses.asdict(other)
    return ", ".join(
        f"{name} = {str(value)[:40]}"
        for name, value in fields.items()
        if value != getattr(protocol, name)
    )
