"""Makes the table of docs/performance.md: each network compared with the same in PyTorch.

python tests/benchmarks/performance.py --output performance
python tests/benchmarks/performance.py --only dcgan28 --rounds 3
python tests/benchmarks/performance.py --precision bfloat16

Takes about half an hour on two cores, which must be left alone meanwhile, and needs `pip install
torch==2.13.0`. Each row is one run of scripts/benchmark.py with random images, batch size 64,
float32, Optimistic Adam and an average of the generator's weights. Its figures go to a JSON file in
the output folder; the table is printed. With bfloat16 both sides compute in it (PyTorch by autocast),
and our float32 step takes turns with them: the last column is its time over that in bfloat16.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def dcgan(size: str, width: int, dynamics: str) -> dict[str, str]:
    return {
        "dataset": f"noise({size})",
        "generator": f"dcgan({width})",
        "discriminator": f"dcgan({width})",
        "regularizers": "()",
        "dynamics": dynamics,
    }


ROWS = {
    "dcgan32_alternating": dcgan("32", 64, "alternating"),
    "dcgan32_simultaneous": dcgan("32", 64, "simultaneous"),
    "dcgan28": dcgan("28, 1", 32, "simultaneous"),
    "resnet32": {
        "dataset": "noise(32)",
        "generator": "resnet",
        "discriminator": "resnet",
        "regularizers": "()",
        "loss": "hinge",
        "dynamics": "alternating",
    },
    "r3gan32": {
        "dataset": "noise(32)",
        "generator": "r3gan(64, cardinality=8)",
        "discriminator": "r3gan(64, cardinality=8)",
        "loss": "relativistic",
        "regularizers": "('r1(1.0)', 'r2(1.0)')",
        "dynamics": "alternating",
    },
    "biggan32": {
        "dataset": "noise(32)",
        "generator": "biggan(16)",
        "discriminator": "biggan(16)",
        "regularizers": "()",
        "loss": "hinge",
        "dynamics": "alternating",
    },
    "stylegan2_32": {  # PyTorch's side has neither noise nor style mixing
        "dataset": "noise(32)",
        "generator": "stylegan2(1024, 64, 2, w_dim=128, style_mixing=0.0)",
        "discriminator": "stylegan2(1024, 64)",
        "regularizers": "('r1(1.0)',)",
        "dynamics": "alternating",
    },
}


def main() -> None:
    """Measures each row, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ROWS, help="one row")
    parser.add_argument("--rounds", default="8", help="turns of each side (8)")
    parser.add_argument("--output", default="performance", type=pathlib.Path, metavar="DIR")
    parser.add_argument(
        "--step_only", action="store_true", help="leave out the whole loop and the start-up"
    )
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    flags = parser.parse_args()
    lower = flags.precision != "float32"
    flags.output.mkdir(parents=True, exist_ok=True)
    print(
        "| work | ms a step | images/s | of peak | PyTorch's best, ms | times as fast "
        "| a call | loop |" + (" over float32 |" if lower else "")
    )
    print("|---|---|---|---|---|---|---|---|" + ("---|" if lower else ""))
    for name in [flags.only] if flags.only else ROWS:
        path = flags.output / f"{name}.json"
        command = [
            sys.executable, ROOT / "scripts/benchmark.py", "--config", ROOT / "configs/mnist.py",
            "--against", "pytorch", *(["precision=float32"] if lower else []),
            "--json", path, "--rounds", flags.rounds, f"--config.precision={flags.precision}",
            *(f"--config.{key}={value}" for key, value in ROWS[name].items()),
            *(["--step_only"] if flags.step_only else []),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(row(name, json.loads(path.read_text())), flush=True)


def row(name: str, result: dict) -> str:
    """Formats the figures of a network as a row of the Markdown table."""
    torch = min(result["pytorch_step_seconds"].items(), key=lambda item: item[1]["median"])
    ratio, to_other = result["ratio_to_best_pytorch_spread"], result["ratio_to_other"]
    cells = [
        name,
        f"{result['step_seconds']['median'] * 1e3:.1f}",
        f"{result['images_per_second']['median']:,.0f}",
        f"{result['share_of_peak']['median']:.0%}",
        f"{torch[1]['median'] * 1e3:.1f} ({torch[0]})",
        spread(ratio),
        f"{result['call_over_single']['median']:.3f}",
        f"{result['loop_over_step']['median']:.3f}" if result["loop_over_step"] else "",
        *([spread(to_other)] if to_other else []),
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: dict[str, float]) -> str:
    """Formats a ratio's median with the least and the greatest."""
    return f"{values['median']:.2f} ({values['low']:.2f} to {values['high']:.2f})"


if __name__ == "__main__":
    main()
