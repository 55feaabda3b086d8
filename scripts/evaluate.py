"""Scores the samples of a run, or any images, against the data: FID, KID, Inception Score and more.

python scripts/evaluate.py --workdir runs/digits
python scripts/evaluate.py --workdir runs/mnist --steps all --metrics fid,kid --num_images 10000
python scripts/evaluate.py --dataset mnist --images samples.npz

Prints a table; a run's results are also appended to evaluations.jsonl in its folder. docs/evaluation.md
says what is measured.
"""

import pathlib
from collections.abc import Sequence

from gan import cli


def main(argv: Sequence[str]) -> None:
    """Flags in, one call."""
    parser = cli.make_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", metavar="DIR", help="a run's folder")
    what.add_argument("--images", metavar="PATH", help="a folder, .zip, .npz, or a dataset's spec")
    parser.add_argument("--dataset", metavar="SPEC", help="the real images, with --images")
    parser.add_argument("--data_dir", metavar="DIR", help="where TFDS keeps them")
    parser.add_argument("--steps", default="latest", help="all, best, latest or a step (latest)")
    parser.add_argument("--metrics", default="fid,kid,is,prdc", help="(fid,kid,is,prdc)")
    parser.add_argument("--num_images", type=int, default=50_000, help="samples a step (50,000)")
    parser.add_argument("--features", default="auto", help="auto, inception or classifier (auto)")
    parser.add_argument("--weights", help="an average by its name, raw or slow (the first average)")
    parser.add_argument("--seed", type=int, default=0, help="of the latents (0)")
    flags = parser.parse_args(argv)
    if flags.images and not flags.dataset:
        parser.error("--images needs --dataset: the real images to which they are compared")
    of_the_other = (
        ("steps", "num_images", "weights", "seed") if flags.images else ("dataset", "data_dir")
    )
    for name in of_the_other:
        if getattr(flags, name) != parser.get_default(name):
            parser.error(f"--{name} does not go with {'--images' if flags.images else '--workdir'}")

    from gan.trainers import results
    from gan.trainers.evaluation import evaluate_images, evaluate_run

    cli.log_to_terminal()
    metrics = tuple(flags.metrics.split(","))
    if flags.images:
        result = evaluate_images(
            flags.images, flags.dataset, data_dir=flags.data_dir, metrics=metrics,
            features=flags.features,
        )  # fmt: skip
        print(results.table([result], [result]))
        return
    now = evaluate_run(
        flags.workdir, steps=flags.steps, metrics=metrics, num_images=flags.num_images,
        features=flags.features, weights=flags.weights, seed=flags.seed,
    )  # fmt: skip
    print(results.table(results.read(pathlib.Path(flags.workdir)), now))


if __name__ == "__main__":
    cli.run(main)
