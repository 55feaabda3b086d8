"""Shows what the game of a run is like at a checkpoint: does it attract, or rotate, and what suits it.

python scripts/spectrum.py --workdir runs/digits
python scripts/spectrum.py --workdir runs/digits --steps all --k 4
python scripts/spectrum.py --workdir runs/digits --path_angle 2500,15000

Prints the leading eigenvalues of the vector field's Jacobian, and advice on dynamics, optimizer and
learning rate; writes pictures and spectrum.json. docs/diagnosis.md says how to read them.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError
from gan.files import user_path


def main(argv: Sequence[str]) -> None:
    """Parses the flags, diagnoses a run, prints what was found and draws it."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--workdir", metavar="DIR", required=True, help="a run's folder")
    parser.add_argument("--steps", default="latest", help="all, best, latest or a step (latest)")
    parser.add_argument("--weights", default="raw", help="raw, slow or an average (raw)")
    parser.add_argument("--k", type=int, default=6, help="eigenvalues of each kind (6)")
    parser.add_argument("--num_batches", type=int, default=4, help="of the field's mean (4)")
    parser.add_argument("--batch_size", type=int, help="examples in each (the run's)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the batches (0)")
    parser.add_argument(
        "--path_angle",
        metavar="STEP,STEP",
        help="of which two checkpoints (the first and the last)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder for the files (WORKDIR/spectrum)")
    cli.add_parts_flag(parser)
    flags = parser.parse_args(argv)
    output = user_path(flags.output or pathlib.Path(flags.workdir) / "spectrum")

    from gan.trainers.diagnosis.diagnose import Protocol, diagnose_run
    from gan.trainers.diagnosis.pictures import draw_path_angle, draw_spectra
    from gan.trainers.diagnosis.report import format_diagnosis, write_json

    cli.log_to_terminal()
    environment.check_devices()
    protocol = Protocol(flags.k, flags.num_batches, flags.batch_size, flags.seed, flags.weights)
    between = None
    if flags.path_angle is not None:
        try:
            first, second = map(int, flags.path_angle.split(","))
        except ValueError:
            raise UsageError(
                f"--path_angle={flags.path_angle}: two steps are accepted, as in 1000,4000"
            ) from None
        between = first, second
    found, angle = diagnose_run(
        flags.workdir, steps=flags.steps, protocol=protocol, between=between, output=output,
        parts=flags.parts,
    )  # fmt: skip
    for diagnosis in found:
        print(format_diagnosis(diagnosis, protocol), end="\n\n")
    draw_spectra(output / "spectrum.png", found)
    if angle is not None:
        draw_path_angle(output / "path_angle.png", angle)
    write_json(output / "spectrum.json", found, angle, protocol)
    print(f"pictures and numbers: {output}/")


if __name__ == "__main__":
    cli.run(main)
