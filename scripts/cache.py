"""Shows the cache of what can be made again, such as compiled programs and classifiers; empties it.

python scripts/cache.py
python scripts/cache.py --empty
python scripts/cache.py --empty compiled real

The cache is in $GAN_CACHE_DIR, else in flax-gan in $XDG_CACHE_HOME or ~/.cache. Beyond $GAN_CACHE_LIMIT
GB (10), every command deletes what was not used for longest. Decoded images are beside the data.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, user_cache
from gan.files import cache_folder
from gan.text_tables import format_table


def main(argv: Sequence[str]) -> None:
    """Parses the flags, empties the cache on request, and prints what it holds."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--empty",
        nargs="*",
        metavar="KIND",
        help=f"delete these kinds; without a name, all but {' and '.join(user_cache.KEPT)}",
    )
    flags = parser.parse_args(argv)
    if flags.empty is not None:
        user_cache.empty(flags.empty)
    kinds = user_cache.kinds()
    rows = [[kind.name, f"{kind.files:,}", f"{kind.size / 1e6:,.1f} MB"] for kind in kinds]
    total = sum(kind.size for kind in kinds)
    print(f"{cache_folder()}: {total / 1e9:.3g} GB, up to {user_cache.limit() / 1e9:g} GB")
    if rows:
        print(format_table([["", "files", "size"], *rows], "lrr"))


if __name__ == "__main__":
    cli.run(main)
