"""Scores samples of a run, or any images, against the data: FID, KID, Inception Score and more.

python scripts/evaluate.py --workdir runs/digits
python scripts/evaluate.py --workdir runs/mnist --steps all --metrics fid,kid --num_images 10000
python scripts/evaluate.py --dataset mnist --images samples.npz

Prints a table; the results of a run are also appended to evaluations.jsonl in its folder.
docs/evaluation.md explains what is measured.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment


def main(argv: Sequence[str]) -> None:
    """Parses the flags, scores a run or images, and prints the table."""
    parser = cli.make_parser(__doc__)
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--workdir", metavar="DIR", help="a run's folder")
    subject.add_argument(
        "--images", metavar="PATH", help="a folder, .zip, .npz, or a dataset's spec"
    )
    parser.add_argument("--dataset", metavar="SPEC", help="the real images (the run's own)")
    parser.add_argument("--data_dir", metavar="DIR", help="folder of the TFDS datasets")
    parser.add_argument("--steps", default="latest", help="all, best, latest or a step (latest)")
    parser.add_argument("--metrics", metavar="A,B,...", help="specs (all that suit the data)")
    parser.add_argument("--num_images", type=int, default=50_000, help="samples a step (50,000)")
    parser.add_argument(
        "--features", default="auto", help="auto, inception, classifier or pixels (auto)"
    )
    parser.add_argument("--weights", help="an average by its name, raw or slow (the first average)")
    parser.add_argument(
        "--classes",
        choices=["data", "equal"],
        default="data",
        help="of a conditional generator: in the data's proportions, or as many of each (data)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (0)")
    cli.add_parts_flag(parser)
    flags = parser.parse_args(argv)
    if flags.images and not flags.dataset:
        parser.error("--images needs --dataset: the real images to which they are compared")
    if flags.data_dir and not flags.dataset:
        parser.error("--data_dir goes with --dataset")
    for name in ("steps", "num_images", "weights", "seed", "classes") if flags.images else ():
        if getattr(flags, name) != parser.get_default(name):
            parser.error(f"--{name} does not go with --images")

    from gan.specs import split_list
    from gan.trainers.evaluation.evaluate import evaluate_images, evaluate_run
    from gan.trainers.evaluation.results import read_results
    from gan.trainers.evaluation.table import format_results

    cli.log_to_terminal()
    environment.check_devices()
    metrics = None if flags.metrics is None else split_list(flags.metrics)
    if flags.images:
        cli.load_parts(flags.parts)
        result = evaluate_images(
            flags.images, flags.dataset, data_dir=flags.data_dir, metrics=metrics,
            features=flags.features,
        )  # fmt: skip
        print(format_results([result], [result]))
        return
    latest = evaluate_run(
        flags.workdir, steps=flags.steps, metrics=metrics, num_images=flags.num_images,
        features=flags.features, weights=flags.weights, seed=flags.seed, classes=flags.classes,
        dataset=flags.dataset, data_dir=flags.data_dir, parts=flags.parts,
    )  # fmt: skip
    print(format_results(read_results(flags.workdir), latest))


if __name__ == "__main__":
    cli.run(main)
