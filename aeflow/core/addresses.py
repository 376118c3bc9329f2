"""Addresses of files: what one may hold, and what of it may be shown or kept.

An address may hold a secret: `user:password@`, or a query such as `?token=...`. A configuration
must not, since results, records and git repeat it; the two environment variables may:

* `AEFLOW_MIRROR`, a URL or a folder, may have both.
* `AEFLOW_AUTH` has a line per host: `<host> <value>`, where a value that begins with `?` is the
  query and any other the header Authorization. It goes to that host and to no other, whoever asks.

User and password of a host may stand in ~/.netrc too, which requests reads.
"""

import os
import re
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.text import UNSEEN

PACKAGE = "package:"
# What begins as a URL does, or holds what only a URL has: user, password, query.
NO_PATH = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:|^(https?|file)?//|:.*@|//.*@|^[^/.~]*@|[?#].*=")
_NO_SECRET = (
    "an address here has no user, password, query or fragment, since results and git would repeat "
    "it: put user and password into ~/.netrc, or set the environment variable "
    "AEFLOW_AUTH='<host> Bearer <token>' or AEFLOW_AUTH='<host> ?<query>'"
)


def is_url(source: str) -> bool:
    """Tell whether a source is a URL, not a path."""
    return "://" in source


def local_path(source: str) -> Path | None:
    """Return where a source is on this machine; None: it is on a server."""
    if not is_url(source):
        return Path(source).expanduser()
    url = urlsplit(source)
    return Path(url2pathname(url.path)) if url.scheme == "file" else None


def check_address(source: str) -> str:
    """Return a source that a configuration or a card names, if it can be one.

    Raises:
        ValueError: it holds what may be a secret, or is no address at all.
    """
    if UNSEEN.search(source) or "\n" in source or not source.strip():
        raise ValueError("an address is one line of text")
    if is_url(source):
        url = _split(source)
        if url.username is not None or url.query or url.fragment or "?" in source:
            raise ValueError(_NO_SECRET)
    elif not source.startswith(PACKAGE):
        # `http:/...`, `user:password@host/...`: what was meant as a URL would be kept as a path.
        if NO_PATH.search(source):
            raise ValueError("neither a URL (http://, https://, file://) nor a path (./...)")
        try:
            Path(source).expanduser()
        except RuntimeError as error:
            raise ValueError("there is no home folder of that user") from error
    return source


def mirrored(mirror: str, name: str) -> str:
    """Return where a mirror has a file.

    Raises:
        ConfigError: AEFLOW_MIRROR is no URL or folder; without a word of what it is.
    """
    if not is_url(mirror):
        return str(Path(mirror) / name)
    try:
        url = _split(mirror)
    except ValueError as error:
        raise ConfigError(f"AEFLOW_MIRROR is no URL or folder: {error}.") from None
    return urlunsplit(url._replace(path=f"{url.path.rstrip('/')}/{quote(name)}", fragment=""))


def public(source: str) -> str:
    """Return a source without user, password and query: what may be shown and kept."""
    if not is_url(source):
        return source
    try:
        url = _split(source)
    except ValueError:
        return f"{source.partition('://')[0]}://..."
    return f"{url.scheme}://{_host(url)}{url.path}{'?...' if url.query else ''}"


def redacted(text: str) -> str:
    """Return any text, cut short where it looks like an address that holds a secret."""
    if "@" in text:
        return "..."
    return re.sub(r"(?s)(?<=:/).*[?#].*|\?.*=.*", "...", text)


def authorised(url: str) -> tuple[str, str | None]:
    """Return the address to ask for, and the header Authorization, as AEFLOW_AUTH has it.

    Raises:
        ConfigError: AEFLOW_AUTH is wrong; without a word of what it is.
    """
    split = _split(url)
    header = None
    for line in filter(str.strip, os.environ.get("AEFLOW_AUTH", "").splitlines()):
        host, _, value = line.strip().partition(" ")
        value = value.strip()
        if not value or is_url(host) or not value.isprintable() or not value.isascii():
            raise ConfigError(
                "AEFLOW_AUTH is wrong: a line is `<host> Bearer <token>`, `<host> Basic <...>` or "
                "`<host> ?<query>`, the host as in the address, with its port if it has one."
            )
        if host.lower() == _host(split).lower():
            if value.startswith("?"):
                query = "&".join(filter(None, [split.query, value[1:]]))
                url = urlunsplit(split._replace(query=query))
            else:
                header = value
    return url, header


def netrc_fault() -> str:
    """Return `; <file> cannot be read` of a ~/.netrc that is broken, which requests ignores."""
    places = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for path in (Path(place).expanduser() for place in places):
        try:
            if path.exists():
                netrc(path)
        except (NetrcParseError, OSError, UnicodeError) as error:  # not its words: a secret's
            line = getattr(error, "lineno", None)
            return f"; {path} cannot be read{f', line {line}' if line else ''}"
    return ""


def redirected(url: str, location: str) -> str:
    """Return where a server sends to; user and password stay with their host.

    Raises:
        DataError: to something else than a web address, or from https to http.
    """
    try:
        before, after = _split(url), _split(urljoin(url, location))
    except ValueError:
        raise DataError("the server redirects to what is no web address") from None
    if after.scheme not in ("http", "https"):
        raise DataError(f"the server redirects to another scheme ({after.scheme})")
    if (before.scheme, after.scheme) == ("https", "http"):
        raise DataError("the server redirects from https to http, where the file could be changed")
    known, _, _ = before.netloc.rpartition("@")
    same = known and _host(before).lower() == _host(after).lower()
    return urlunsplit(after._replace(netloc=f"{known}@{_host(after)}" if same else _host(after)))


def _split(source: str) -> SplitResult:
    """Return the parts of a URL; ValueError: it is none, or not one that everybody reads alike."""
    if source.partition("://")[0].lower() not in ("http", "https", "file"):
        raise ValueError("a URL begins with http://, https:// or file://")
    if re.match("file://(?!/|localhost/)", source, re.IGNORECASE):
        raise ValueError("a file of this machine has three slashes: file:///folder/file")
    try:
        url = urlsplit(source)
        hosted = (url.hostname and url.port != 0) or url.scheme == "file"
        if hosted and not re.search(r"[\s\\]", source) and "@" not in url.path:
            return url
    except ValueError:
        pass
    raise ValueError(
        "the URL has no right host, port or path (in a password and a path, @ is %40, / is %2F "
        "and ? is %3F)"
    )


def _host(url: SplitResult) -> str:
    return url.netloc.rpartition("@")[2]
