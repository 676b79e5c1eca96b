"""Where data sets by name are looked for, and how they are fetched when they are nowhere."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import logging
import os
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from tasks.sources.files import absolute
from tasks.sources.samples import SourceError

logger = logging.getLogger("duskflow.sources")

#: Seconds without an answer after which a server is given up.
TIMEOUT = 30.0
_BLOCK = 1 << 20


def data_folder() -> Path | None:
    """The folder that DUSKFLOW_DATA names, None when it is not set.

    Raises
    ------
    FileNotFoundError
        It names no folder: going on would fetch what the user meant to provide.
    """
    named = os.environ.get("DUSKFLOW_DATA")
    if not named:
        return None
    folder = Path(absolute(named))
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder at {folder}, which DUSKFLOW_DATA names, found none; do correct it")
    return folder


def cache_folder() -> Path:
    """Where downloads are kept: DUSKFLOW_CACHE, else ``duskflow`` in XDG_CACHE_HOME or ``~/.cache``."""
    named = os.environ.get("DUSKFLOW_CACHE")
    if named:
        return Path(absolute(named))
    return Path(absolute(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "duskflow"


def package_folder(package: str) -> Path | None:
    """Where a top-level package is installed, without importing it; None when it is not."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def fetch(url: str, target: Path, algorithm: str, checksum: str) -> None:
    """Fetch a file: whole and as expected, or not there at all.

    Parameters
    ----------
    url : str
    target : pathlib.Path
        Where it shall be; its folder is made.
    algorithm, checksum : str
        The name of a hash in `hashlib` and the hex digest that the file must have.

    Raises
    ------
    SourceError
        What arrived is not the file.
    OSError
        The server cannot be reached or refuses.
    """
    logger.info("downloading %s to %s", url, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        found = hashlib.new(algorithm, usedforsecurity=False)
        received = 0
        with os.fdopen(descriptor, "wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            promised = answer.headers.get("Content-Length")
            while block := answer.read(_BLOCK):
                file.write(block)
                found.update(block)
                received += len(block)
        if promised is not None and received != int(promised):
            raise SourceError(
                f"{url}: expected {promised} bytes, received {received}: the transfer broke; do try again"
            )
        if found.hexdigest() != checksum:
            raise SourceError(
                f"{url}: expected {algorithm} {checksum}, received {found.hexdigest()}; do fetch it another way"
            )
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except http.client.HTTPException as error:
        raise SourceError(f"{url}: the transfer broke ({error!r}); do try again") from error
    except urllib.error.URLError as error:
        raise OSError(f"{url}: cannot be fetched ({error.reason})") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
