"""Draws samples from a trained generator.

python scripts/sample.py --workdir runs/digits --num_images 64 --seed 0 --output samples.png
"""

from collections.abc import Sequence

from gan import cli


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and writes samples to a file."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--output", default="samples.png", help="a .png grid, or an .npy or .npz with the arrays"
    )
    parser.add_argument("--num_images", type=int, default=64, help="number of samples (64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (0)")
    parser.add_argument("--step", type=int, help="step of the checkpoint (the newest)")
    parser.add_argument(
        "--weights",
        help="an average by its name (ema, uniform), raw, or slow after lookahead "
        "(the config's first average)",
    )
    flags = parser.parse_args(argv)

    from gan.trainers.sampling import sample

    step = sample(
        flags.workdir,
        flags.output,
        num_images=flags.num_images,
        seed=flags.seed,
        weights=flags.weights,
        step=flags.step,
    )
    print(f"{flags.output}: {flags.num_images} samples of {flags.workdir} at step {step}")


if __name__ == "__main__":
    cli.run(main)
