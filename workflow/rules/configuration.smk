# The files of the configuration, before Snakemake reads config/ and after it has read the overlays:
# of a broken one it says neither file nor line, and of a key that is given twice nothing at all.
import sys
from pathlib import Path

from aeflow.core.errors import AeflowError
from aeflow.core.schema import load_yaml
from aeflow.study.defaults import CONFIG, DEFAULTS

try:
    for file in [*workflow.overwrite_configfiles, DEFAULTS, CONFIG]:
        load_yaml(Path(file))  # JSON is YAML
except AeflowError as error:
    sys.exit(str(error))
