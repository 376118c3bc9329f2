"""Write config/config.default.yaml and config/config.schema.json (aeflow.config_files)."""

from pathlib import Path

from aeflow.config_files import default_yaml, schema_json
from aeflow.files import write_text
from aeflow.logging import script


def main(_: list[str]) -> None:
    """Write both files."""
    write_text(Path("config/config.default.yaml"), default_yaml())
    write_text(Path("config/config.schema.json"), schema_json())


if __name__ == "__main__":
    script(main)
