"""What a run says, and what it would do: Snakemake's logger plugin `aeflow`.

Snakemake finds the package by its name (`logger: aeflow` in profiles/default).
"""

import logging
import sys

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_aeflow.dry_run import DryRun
from snakemake_logger_plugin_aeflow.options import tell_in_a_sentence
from snakemake_logger_plugin_aeflow.run import Lines, Run, Screen

_OF_JOBS = (LogEvent.JOB_INFO, LogEvent.JOB_ERROR)


class LogHandler(LogHandlerBase):
    """Tells of a run: on a terminal, in lines, or in Snakemake's own words if asked to."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        logger = logging.getLogger("snakemake.logging")
        if tell_in_a_sentence not in logger.filters:
            logger.addFilter(tell_in_a_sentence)
        asked = self.common_settings
        stream = sys.stdout if asked.stdout else sys.stderr
        quiet = set(asked.quiet or ())
        own: logging.Handler
        self._details: logging.Handler | None = None
        if asked.verbose or asked.debug_dag or asked.printshellcmds:
            details = (asked.debug_dag, asked.verbose, asked.dryrun, asked.printshellcmds)
            self._details = ColorizingTextHandler(
                *(asked.nocolor, stream),
                DefaultFormatter(quiet, asked.show_failed_logs),
                DefaultFilter(quiet, *details),
            )
            own = Lines(stream, Run(asked.show_failed_logs), {Quietness.ALL})
        elif asked.dryrun:
            own = DryRun(stream)
        elif stream.isatty() and not quiet & {Quietness.ALL, Quietness.PROGRESS}:
            own = Screen(stream, Run(asked.show_failed_logs))
        else:
            own = Lines(stream, Run(asked.show_failed_logs), quiet)
        self._own = own

    def emit(self, record: logging.LogRecord) -> None:
        if self._details is not None:
            self._details.handle(record)
        if self._details is None or getattr(record, "event", None) in _OF_JOBS:
            self._own.handle(record)

    def close(self) -> None:
        self._own.close()
        super().close()
