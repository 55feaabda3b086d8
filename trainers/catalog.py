"""A list of all that a config's specs can name, drawn from the code's own signatures."""

from gan.trainers.experiment import REGISTRIES


def catalog() -> str:
    """One section a config key, one line a name: its arguments with their defaults."""
    sections = []
    for keys, registry in REGISTRIES.items():
        lines = [f"  {registry.usage(name)}" for name in registry]
        sections.append("\n".join([f"{keys}:", *lines]))
    return "\n\n".join(sections)
