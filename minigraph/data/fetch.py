"""Downloading a file that is known by its checksum.

What counts is the SHA-256 of the contents, so it does not matter how honest the network, the mirror or a redirect is:
only the right file ever appears under the path, and it appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any

from ..errors import ArgumentError, MinigraphError
from ..interop.atomic import replacing

CHUNK = 1 << 16
TIMEOUT = 30  # seconds without a byte


class DownloadError(MinigraphError, OSError):
    """A file that could not be fetched, or that is not the one with the given checksum."""


def download(url: str, path: str | os.PathLike[str], *, sha256: str, progress: bool = True) -> str:
    """Fetch a file, unless it is there already, and make sure that it is the right one.

    Args:
        url: http or https. Redirects are followed, also to other hosts, but never from https to http.
        path: where the file shall be. If it exists with the right checksum, nothing is fetched.
        sha256: the checksum of the contents, 64 hexadecimal digits.
        progress: show a bar, if the package tqdm is installed.

    Returns:
        the path.

    Raises:
        ArgumentError: a url or checksum that is none.
        DownloadError: no connection, no such file on the server, an interrupted transfer, the wrong checksum, no
            room on the disk; or another file is at `path` already, which is left alone. Nothing is written then.

    >>> mg.data.download("https://example.org/digits.npz", "digits.npz", sha256="not a checksum")
    Traceback (most recent call last):
    minigraph.errors.ArgumentError: download: sha256
      expected  64 hexadecimal digits
      ...
    """
    wanted = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise ArgumentError("download: sha256", expected="64 hexadecimal digits", actual=repr(sha256),
                            remedy="compute it once from a copy that you trust: sha256sum FILE")  # fmt: skip
    if not re.match("https?://.", url):
        raise ArgumentError("download: url", expected="http://... or https://...", actual=repr(url),
                            remedy="copy local files with shutil.copy")  # fmt: skip
    path = os.fspath(path)
    if os.path.isfile(path):
        found = file_sha256(path)
        if found != wanted:
            raise DownloadError(
                f"download: another file is at {path!r} already",
                expected=f"sha256 {wanted}",
                actual=f"sha256 {found}",
                remedy="remove or rename it, choose another path, or correct the checksum",
            )
        return path
    size = 0
    with replacing(path, "download", lambda: size, DownloadError) as temporary:
        with _response(url) as response, open(temporary, "wb") as file:
            length = response.headers.get("Content-Length", "")
            size = int(length) if length.isdecimal() else 0
            digest, received = hashlib.sha256(), 0
            with _bar(os.path.basename(path), size, progress) as bar:
                while chunk := _read(response, url):
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    bar(len(chunk))
        if received < size:
            raise DownloadError(
                f"download: {url} was cut off",
                expected=f"{size:,} bytes",
                actual=f"{received:,} bytes",
                remedy="try again",
            )
        if digest.hexdigest() != wanted:
            raise DownloadError(f"download: {url} is not the expected file", expected=f"sha256 {wanted}",
                                actual=f"sha256 {digest.hexdigest()} ({received:,} bytes), not kept",
                                remedy="look at what the address gives (a new version? a login page?)")  # fmt: skip
    return path


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_redirect(before: str, after: str) -> None:
    """Redirects stay with http(s) and do not give up encryption."""
    old, new = before.partition(":")[0], after.partition(":")[0]
    if new not in ("http", "https") or (old == "https" and new == "http"):
        raise DownloadError(
            f"download: {before} redirects to {after}",
            expected=f"a redirect to {'https' if old == 'https' else 'http or https'}",
            actual=new,
            remedy="check the address",
        )


def _response(url: str) -> Any:
    import http.client
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            _check_redirect(req.full_url, newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    try:
        request = urllib.request.Request(url, headers={"User-Agent": "minigraph"})
        return urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT)
    except DownloadError:
        raise
    except urllib.error.HTTPError as error:
        with error:
            raise DownloadError(
                f"download: the server refuses {url}",
                expected="status 200",
                actual=f"{error.code} {error.reason}",
                remedy="check the address; the file may have moved",
            ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(
            f"download: cannot reach {url}",
            expected="an answer from the server",
            actual=f"{getattr(error, 'reason', None) or error!r}",
            remedy="check the connection and the address",
        ) from error


def _read(response: Any, url: str) -> bytes:
    import http.client

    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
            f"download: {url} was cut off", expected="all of the file", actual=repr(error), remedy="try again"
        ) from error


@contextlib.contextmanager
def _bar(name: str, size: int, progress: bool) -> Iterator[Any]:
    """A function to call with each number of bytes that has arrived."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        progress = False
    if not progress:
        yield lambda n: None
        return
    with tqdm(total=size or None, desc=name, unit="B", unit_scale=True, unit_divisor=1024) as bar:
        yield bar.update
