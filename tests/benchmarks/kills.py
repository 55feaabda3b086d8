"""Kills commands with `kill -9` at random moments, damages files in between, and looks what becomes of it.

python -m tests.benchmarks.kills --kills 1000 --seed 0 --output kills.json

Training, decoding, evaluating, sampling and preparing of tiny data, each in a folder of its own. An episode is
some kills of one command, some with damage after them, and then the command to its end: the result must be
that of a command to which nothing happened, or there must be one line that says why not. Nothing else may
change. The file is written after each episode; the same command goes on with it.

Most starts fork a process that has imported everything (see `tests.benchmarks.forked`); one in 20 is a real
one. What went wrong is kept in the folder `--keep`.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import forked
from tests.benchmarks.kill_scenarios import (
    SCRIPTS,
    Result,
    Scenario,
    copy,
    digests,
    interrupted,
    leftovers,
    make_inputs,
    passed_over,
    scenarios,
)

_ROOT = SCRIPTS.parent
_REAL = 1 / 20  # of the starts
_DAMAGED = 0.2  # of the kills
_LONGEST = 1_800.0  # seconds of a command to its end, on a busy machine
_TRUSTED = (
    "compiled",
    "parts",
)  # of the cache: content that is known by its name, or that is trusted
_OF_LIBRARIES = (
    "home/.cache/matplotlib",
    "home/.config",
    "home/.keras",
    "home/.cache",
)  # their own caches
_NOT_OURS = ("__pycache__", ".git", ".pytest_cache", ".ruff_cache", ".mypy_cache", "build")


@dataclass
class World:
    """A folder for one scenario: its current folder, home, cache and temporary files."""

    root: Path
    scenario: Scenario
    seconds: float = 0.0
    undisturbed: Result = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Names the folders."""
        self.cwd, self.cache, self.tmp = (self.root / name for name in ("cwd", "cache", "tmp"))
        self.log, self.kept = self.root / "log", self.root / "kept"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its commands."""
        own = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
        return {name: os.environ[name] for name in own if name in os.environ} | {
            "HOME": str(self.root / "home"), "GAN_CACHE_DIR": str(self.cache), "TMPDIR": str(self.tmp),
            "JAX_NUM_CPU_DEVICES": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def start(self, real: bool = False) -> forked.Program:
        """Starts its command."""
        script = SCRIPTS / self.scenario.script
        return forked.start(
            script, self.scenario.args, self.cwd, self.variables, self.log, forked=not real
        )

    def begin(self) -> None:
        """Makes its folders as they are before the first start."""
        for name in self.scenario.folders:
            copy(self.kept / name, self.cwd / name)

    def own(self) -> list[Path]:
        """Returns the folders in which its files are, its cache among them."""
        return [*(self.cwd / name for name in self.scenario.folders), self.cache]

    def bystanders(self) -> dict[str, str]:
        """Returns the digests of all that its command must not change."""
        own = [folder.relative_to(self.root).as_posix() for folder in self.own()]
        return digests(self.root, but=(*own, *_OF_LIBRARIES, "tmp", "log", "kept"))


class Campaign:
    """Episodes of all scenarios, and what was counted.

    Args:
      root: An empty folder.
      keep: Where what went wrong is copied to.
      counts: What was counted so far.
    """

    def __init__(self, root: Path, keep: Path, counts: dict[str, dict[str, int]]):
        self.counts = collections.defaultdict(Counter, {k: Counter(v) for k, v in counts.items()})
        self._keep = keep
        self._worlds: dict[str, World] = {}
        trained: World | None = None
        for scenario in scenarios():
            world = World(root / scenario.name.replace(" ", "_"), scenario)
            if trained is None:
                make_inputs(world.cwd)
            else:
                first = next(iter(self._worlds.values()))
                for name in ("points.py", "pictures.py"):
                    world.cwd.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(first.cwd / name, world.cwd)
                for name in ("pictures", "raw"):
                    copy(first.cwd / name, world.cwd / name)
            for name in ("home", "cache", "tmp"):
                (world.root / name).mkdir()
            (world.root / "home" / "of the user.txt").write_text("mine")
            for name in scenario.kept:
                assert trained is not None
                copy(trained.cwd / name, world.kept / name)
            self._undisturbed(world)
            self._worlds[scenario.name] = trained = world
            if scenario.kept:
                trained = self._worlds["decode and train"]

    def _undisturbed(self, world: World) -> None:
        """Runs a command twice, the second time with all that is cached: its result and duration."""
        results = []
        for _ in range(2):
            world.begin()
            begin, program = time.monotonic(), world.start()
            assert program.wait(_LONGEST), world.scenario.name
            assert program.code == 0, program.text()
            world.seconds = time.monotonic() - begin
            results.append(world.scenario.result(world.cwd, program.text()))
        assert results[0] == results[1], world.scenario.name
        world.undisturbed = results[0]
        print(f"{world.scenario.name}: {world.seconds:.1f} s undisturbed", flush=True)

    def episode(self, rng: random.Random) -> None:
        """Kills one command some times, and judges what becomes of it."""
        chosen = scenarios()
        (scenario,) = rng.choices(chosen, [each.share for each in chosen])
        world = self._worlds[scenario.name]
        world.begin()
        if rng.random() < 0.04:
            shutil.rmtree(world.cache)
            world.cache.mkdir()
        before, damaged = world.bystanders(), []
        for _ in range(rng.randint(3, 7)):
            program = self._kill(world, rng)
            if program.code != -9:
                self._judge(world, program, damaged)
                break  # it is done or refused: there is nothing more to kill
            if rng.random() < _DAMAGED and (what := self._damage(world, rng)):
                damaged.append(what)
        else:
            program = world.start(real=rng.random() < _REAL)
            if not program.wait(_LONGEST):
                program.kill()
            self._judge(world, program, damaged)
            for name in (name for folder in world.own() for name in leftovers(folder)):
                kind = re.sub(r"\d+|(?<=[.])[\w]{6,8}(?=_|$)", "*", name.rpartition("/")[2])
                self._count("leftovers", f"{scenario.name}: {kind}")
        if (after := world.bystanders()) != before:
            changed = sorted(dict(before.items() ^ after.items()))
            self._bug(world, f"changed what is not its own: {', '.join(changed)[:300]}", damaged)
        shutil.rmtree(world.tmp)
        world.tmp.mkdir()

    def _kill(self, world: World, rng: random.Random) -> forked.Program:
        """Starts the command and kills it at a random moment, if it has not ended before."""
        real, scenario = rng.random() < _REAL, world.scenario
        program = world.start(real)
        moment, long = rng.random(), world.seconds * 1.3 + 5 * real
        later = rng.expovariate(1 / 0.02)
        if moment < 0.4:  # any time
            program.wait(rng.uniform(0, world.seconds + 4 * real))
        elif moment < 0.6:  # soon after something was printed
            _, words = rng.choice(scenario.phases)
            program.wait(long, lambda: words in program.text())
        else:  # while files are written
            folder = rng.choice([folder for folder in world.own() if folder != world.cache])
            files, count = _names(folder), rng.choice([1, 1, 2, 3, 5, 8, 13, 21, 34])
            program.wait(long, lambda: len(_names(folder) - files) >= count)
        program.wait(later)
        if program.kill():
            half = next(filter(None, map(interrupted, world.own())), "")
            text = program.text()
            begun = [name for name, words in scenario.phases if words in text]
            self._count("kills", f"{scenario.name}: {half or (begun or ['starting'])[-1]}")
            self._count("starts killed", "real" if real else "forked")
        return program

    def _damage(self, world: World, rng: random.Random) -> str:
        """Damages a random file; returns its name below its folder."""
        files = [
            (folder, path)
            for folder in world.own()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).parts[0] not in _TRUSTED[1:]
        ]
        if not files:
            return ""
        folder, path = rng.choice(files)
        kinds = ["flip", "truncate", "empty", "delete", "garbage", "copy"]
        if folder == world.cache and path.relative_to(folder).parts[0] == _TRUSTED[0]:
            kinds.remove("copy")
        kind = rng.choice(kinds)
        content = path.read_bytes()
        if kind in ("flip", "truncate", "garbage") and not content:
            return ""
        match kind:
            case "flip":
                place = rng.randrange(len(content))
                flipped = content[place] ^ (1 << rng.randrange(8))
                path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
            case "truncate":
                path.write_bytes(content[: rng.randrange(len(content))])
            case "empty":
                path.write_bytes(b"")
            case "delete":
                path.unlink()
            case "garbage":
                path.write_bytes(rng.randbytes(len(content)))
            case "copy":
                path.write_bytes(rng.choice(files)[1].read_bytes())
        name = path.relative_to(folder).as_posix()
        place = "cache" if folder == world.cache else folder.name
        self._count("damage", f"{place}/{_kind(name)}: {kind}")
        return name

    def _judge(self, world: World, program: forked.Program, damaged: list[str]) -> None:
        """Counts how a command has ended."""
        scenario, text = world.scenario, program.text()
        lines = [line for line in text.splitlines() if line.strip()]
        if program.code in (1, 2) and lines[-1].startswith(f"{scenario.script}: "):
            self._count("outcomes", f"{scenario.name}: {_pattern(lines[-1], world)}")
            if "Traceback" in text:
                self._bug(world, "a traceback", damaged)
            elif not damaged and "a folder that is new or empty is accepted" not in lines[-1]:
                self._bug(world, "refused, and nothing was damaged", damaged)
            return
        if program.code != 0:
            self._bug(world, f"exit code {program.code}", damaged)
            return
        result, expected = scenario.result(world.cwd, text), world.undisturbed
        differ = sorted(
            name
            for name in result.keys() | expected.keys()
            if result.get(name) != expected.get(name) and not _excused(name, result, damaged, text)
        )
        if differ:
            self._bug(world, f"without a word, other {', '.join(differ)[:200]}", damaged)
        else:
            said = " (it said what it passed over)" if passed_over(text) else ""
            self._count("outcomes", f"{scenario.name}: the undisturbed result{said}")

    def _bug(self, world: World, what: str, damaged: list[str]) -> None:
        number = sum(self.counts["bugs"].values())
        self._count(
            "bugs", f"{world.scenario.name}: {what} (damaged: {', '.join(damaged) or 'nothing'})"
        )
        place = self._keep / f"{number:03d}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(world.root, place, symlinks=True)
        (place / "what").write_text(f"{world.scenario.name}\n{what}\n{damaged}\n")
        print(f"BUG {place}: {world.scenario.name}: {what}; damaged: {damaged}", flush=True)

    def _count(self, table: str, row: str) -> None:
        self.counts[table][row] += 1


def _names(folder: Path) -> set[str]:
    """Returns the names in a folder and in those within it, two deep: cheap enough to ask all the time."""
    names: set[str] = set()
    for path, folders, files in os.walk(folder):
        names |= {os.path.join(path, name) for name in (*folders, *files)}
        if path.count("/") - str(folder).count("/") >= 2:
            folders.clear()
    return names


def _excused(name: str, result: Result, damaged: list[str], text: str) -> bool:
    """Returns whether it was said, or is plain, why a part of the result differs.

    A log or picture that was damaged after it was made stays so. Of a step that is passed over there are no scores,
    and samples are of another.
    """
    if any(name.startswith(own) for own in damaged if own):
        return True
    if name.startswith("evaluations.jsonl") and name not in result:
        return passed_over(text)
    is_sample = name == "step" or name.startswith("samples")
    return is_sample and "step" in result and passed_over(text)


def _kind(name: str) -> str:
    """Returns the kind of a file, given its path in a folder of a run or of the cache."""
    name = re.sub(r"[0-9a-f]{16,}", "*", name)
    name = re.sub(r"^(checkpoints|samples|compiled|decoded)/.*/", r"\1/.../", name)
    return re.sub(r"\d+", "*", name)


def _pattern(line: str, world: World) -> str:
    line = line.replace(str(world.root), "").replace("cwd/", "")
    line = re.sub(r"[0-9a-f]{12,}", "*", line)
    return re.sub(r"\d[\d.,:]*", "*", line)[:160]


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of every file of the checkout."""
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_OURS]
        for name in names:
            status = os.lstat(os.path.join(path, name))
            found[os.path.join(path, name)] = (status.st_size, status.st_mtime_ns)
    return found


def table(counts: dict[str, dict[str, int]]) -> str:
    """Returns what was counted, as lines."""
    lines = []
    for name in ("starts killed", "kills", "damage", "outcomes", "leftovers", "bugs"):
        rows = counts.get(name, {})
        lines.append(f"{name}: {sum(rows.values()):,}")
        lines += [f"  {count:5,} {row}" for row, count in sorted(rows.items())]
    return "\n".join(lines)


def main() -> None:
    """Runs the episodes, and prints what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "kills")
    flags = parser.parse_args()
    done = json.loads(flags.output.read_text()) if flags.output.exists() else {}
    counts, first = done.get("counts", {}), done.get("episodes", 0)
    begin, seconds = time.monotonic(), done.get("seconds", 0.0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    forked.preload()
    checkout = _listing(_ROOT)
    with tempfile.TemporaryDirectory(prefix="kills.") as folder:
        campaign = Campaign(Path(folder), flags.keep, counts)
        while sum(campaign.counts["kills"].values()) < flags.kills:
            campaign.episode(random.Random(f"{flags.seed} {first}"))
            first += 1
            done = {
                "command": sys.argv[1:], "episodes": first, "seconds": seconds + time.monotonic() - begin,
                "counts": campaign.counts,
            }  # fmt: skip
            flags.output.write_text(json.dumps(done, indent=1))
        print(table(campaign.counts))
        if changed := sorted(dict(checkout.items() ^ _listing(_ROOT).items())):
            print(f"changed in the checkout: {changed}")
        sys.exit(1 if campaign.counts["bugs"] or changed else 0)


if __name__ == "__main__":
    main()
