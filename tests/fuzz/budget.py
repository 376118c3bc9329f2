"""How many inputs a property is tried on: a few in `make test`, many times more in `make fuzz`.

The one knob is the environment variable AEFLOW_FUZZ, the factor (1 if it is not set). With 1 the
inputs are the same each time; with more they are new ones, and what fails is printed with
`@reproduce_failure`. Keep it then as an `@example` of its property.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("AEFLOW_FUZZ", "1"))


def tried(count: int) -> Any:
    """Return the decorator of a property that `make test` tries on `count` inputs."""
    return settings(
        max_examples=count * FACTOR,
        derandomize=FACTOR == 1,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
