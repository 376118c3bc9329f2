"""Write losses, settings and metrics of every cell for a logger."""

from pathlib import Path

from aeflow.report.loggers import write_logs
from aeflow.study.job import job
from aeflow.study.study import Logger, Study


def log_runs(study: Study, logger: Logger, logged: Path) -> None:
    """Write the folder that the logger reads."""
    write_logs(study, logger, logged)


if __name__ == "__main__":
    job(log_runs)
