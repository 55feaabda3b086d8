"""Prepares a dataset for training, or shows what it contains.

python scripts/prepare_data.py --dataset mnist --data_dir DIR
python scripts/prepare_data.py --dataset mnist --data_dir DIR --raw_dir FOLDER_WITH_THE_PUBLISHED_FILES
python scripts/prepare_data.py --dataset 'images(path="photos/", resolution=64)' --preview preview.png

The first command downloads the dataset, the second needs no network connection; in both, TFDS
prepares the dataset. The third command draws some examples.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli
from gan.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and prepares or previews the dataset."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--dataset", required=True, metavar="SPEC", help="mnist, emnist/letters, ..."
    )
    parser.add_argument(
        "--data_dir", metavar="DIR", help="folder of the datasets that TFDS prepares"
    )
    parser.add_argument(
        "--raw_dir", metavar="DIR", help="folder with the published files, packed or not"
    )
    parser.add_argument("--preview", metavar="FILE.png", help="draw a grid of examples with labels")
    cli.add_parts_flag(parser)
    flags = parser.parse_args(argv)

    from gan.data import DATASETS
    from gan.data.prepare import prepare
    from gan.data.preview import check_name, preview, summary

    cli.log_to_terminal()
    cli.load_parts(flags.parts)
    if flags.preview is not None:
        check_name(flags.preview)
    dataset = DATASETS.build(flags.dataset, data_dir=flags.data_dir)
    if dataset.tfds_name is not None:
        prepare(dataset.tfds_name, flags.data_dir, flags.raw_dir)
        dataset = DATASETS.build(flags.dataset, data_dir=flags.data_dir)
    elif flags.raw_dir is not None:
        raise UsageError(f"--raw_dir: {flags.dataset} needs no preparation")
    examples = dataset.load()
    print(summary(dataset, examples))
    if flags.preview is not None:
        preview(dataset, examples, flags.preview)


if __name__ == "__main__":
    cli.run(main)
