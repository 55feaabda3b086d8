"""Results as a table, in which those of another protocol are marked."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from gan.errors import printable_lines
from gan.metrics.metric import find_score
from gan.text_tables import format_table
from gan.trainers.evaluation.results import Protocol, Result


def format_results(results: Sequence[Result], latest: Sequence[Result]) -> str:
    """Formats results with their protocol, and marks those of other protocols.

    Args:
      results: All results, early and latest.
      latest: The latest results: at least one, all of one protocol.
    """
    protocol, columns = latest[0].protocol, list(latest[0].subject)
    stds = {score.std for name in latest[0].scores if (score := find_score(name))}
    scores = [name for name in latest[0].scores if name not in stds]
    protocols = {protocol.fingerprint: protocol}
    results = [result for result in results if list(result.subject) == columns]
    for result in results:
        protocols.setdefault(result.protocol.fingerprint, result.protocol)
    marks = {fingerprint: "*" * index for index, fingerprint in enumerate(protocols)}
    rows = [[*columns, *scores]]
    for result in sorted(results, key=lambda result: _place(result, marks)):
        mark = marks[result.protocol.fingerprint]
        rows.append(
            [_cell(result.subject[name]) for name in columns]
            + [_number(result.scores, name) + mark for name in scores]
        )
    lines = [format_table(rows, align="r" * len(rows[0])), ""]
    lines.append(f"protocol {protocol.fingerprint}: {_describe(protocol)}")
    for fingerprint, other in protocols.items():
        if marks[fingerprint]:
            difference = _difference(other, protocol)
            lines.append(f"{marks[fingerprint]} protocol {fingerprint}: {difference}")
    warnings = dict.fromkeys(warning for result in latest for warning in result.warnings)
    return printable_lines("\n".join([*lines, *(f"warning: {warning}" for warning in warnings)]))


def _place(result: Result, marks: dict[str, str]) -> tuple[str, str]:
    """Returns a key to sort rows by: unmarked first, then by step."""
    return marks[result.protocol.fingerprint], str(result.subject.get("step")).zfill(12)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(scores: dict[str, float], name: str) -> str:
    """Formats a score, with its standard deviation where there is one."""
    if scores.get(name) is None:
        return "-"
    score = find_score(name)
    number_format = score.number_format if score else ".4f"
    text = f"{scores[name]:{number_format}}"
    if score and score.std in scores:
        text += f" +- {scores[score.std]:{number_format}}"
    return text


def _describe(protocol: Protocol) -> str:
    """Describes a protocol in one line."""
    latents = "" if protocol.seed is None else f", latents of seed {protocol.seed}"
    if protocol.classes != "none":
        latents += (
            f", classes {'as in the data' if protocol.classes == 'data' else protocol.classes}"
        )
    of_game = f"; {protocol.game}" * bool(protocol.game)
    if not protocol.num_fake:
        data = f"{protocol.num_real:,} real ones, {protocol.dataset} {protocol.data_digest[:8]}"
        return f"{protocol.game}{latents}; {data}"
    images = protocol.quantisation != "none"
    kind = "images" if images else "points"
    if not protocol.num_real:
        return f"{protocol.num_fake:,} {kind} against {protocol.dataset}{latents}{of_game}"
    rounded = f" as {protocol.quantisation}" if images else ""
    network = f"{protocol.features} {protocol.features_digest[:8]}".rstrip()
    return (
        f"{network}, resize {protocol.resize}; {protocol.num_fake:,} {kind}{rounded}{latents}; "
        f"{protocol.num_real:,} real ones, {protocol.dataset} {protocol.data_digest[:8]}; "
        f"KID and neighbours of {protocol.num_pairs:,}{of_game}"
    )


def _difference(other: Protocol, protocol: Protocol) -> str:
    """Lists the fields in which another protocol differs, with its values."""
    fields = dataclasses.asdict(other)
    return ", ".join(
        f"{name} = {str(value)[:40]}"
        for name, value in fields.items()
        if value != getattr(protocol, name)
    )
