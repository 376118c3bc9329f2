"""What Snakemake says of options that it cannot use, as one sentence.

No other place of ours is read before its options are.
"""

import logging
import sys
import traceback

from snakemake_interface_logger_plugins.common import LogEvent


def tell_in_a_sentence(record: logging.LogRecord) -> bool:
    """Replace the traceback of an option that cannot be used by what is wrong with it."""
    error = sys.exc_info()[1]
    if getattr(record, "event", None) == LogEvent.ERROR and error is not None:
        record.msg = sentence(error) or record.msg
    return True


def sentence(error: BaseException) -> str | None:
    """Return what to say of an error, None if Snakemake's own words serve.

    Those of its own classes do, and so does a traceback that goes through the rules: that is a
    fault of the rules and not of an option.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_code.co_filename for frame in frames]
    if any(name.endswith((".smk", "Snakefile")) for name in names):
        return None
    files = [
        str(frame.f_locals["configpath"])
        for frame in frames
        if frame.f_code.co_name == "load_configfile" and "configpath" in frame.f_locals
    ]
    what = f"--configfile {files[0]}" if files else "snakemake's options"
    match error:
        case UnicodeDecodeError():
            return f"{what}: this is no UTF-8 text ({error}). Save it as UTF-8."
        case FileNotFoundError() if files:
            return f"{what}: there is no such file. A study's files are in config/studies."
        case OSError() if error.filename and not files:
            return f"{error.filename}: {error.strerror}."
        case OSError():
            return f"{what}: {error.strerror or error}."
        case ValueError() if "parse_config" in {frame.f_code.co_name for frame in frames}:
            what = str(error).rstrip(".")
            return f"--config: {what}. For example `--config study=mine seeds=[0,1]`."
        case ValueError() | TypeError():
            return f"{what} cannot be read: {error}. (`--verbose` shows where.)"
    return None
