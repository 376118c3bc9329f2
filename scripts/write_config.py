"""Write config/config.default.yaml and config/config.schema.json (aeflow.study.defaults)."""

from pathlib import Path

from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.study.defaults import default_yaml, schema_json


def main(_: list[str]) -> None:
    """Write both files."""
    write_text(Path("config/config.default.yaml"), default_yaml())
    write_text(Path("config/config.schema.json"), schema_json())


if __name__ == "__main__":
    script(main)
