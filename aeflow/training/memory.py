"""How much memory a process took."""

import resource
import sys


def peak_rss_mib() -> float:
    """Return the largest resident set of this process so far, in MiB.

    Files that are mapped into memory count as far as they were resident at that moment.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
