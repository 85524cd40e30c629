"""Writing a file so that there is always a whole one.

The new contents go to a temporary file in the same folder, are forced to the disk, and take the old file's place in one
step (`os.replace`). Whatever happens before that step (a full disk, Ctrl-C, a power cut) leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator

from ..errors import CheckpointError, MinigraphError

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], what: str, needed: Callable[[], int], error: type[MinigraphError] = CheckpointError
) -> Iterator[str]:
    """A temporary path to write to, which becomes `path` if the block ends well and is removed if it does not.

    Args:
        path: the file to create or replace; a link is followed.
        what: the operation, for messages.
        needed: how many bytes the file takes, as far as known when a write fails.
        error: the class of the errors, constructed like a `MinigraphError`.

    Raises:
        CheckpointError (or `error`): the folder is missing or read-only, the disk is full, or `path` is not a file.
    """
    final = os.path.realpath(path)
    folder = os.path.dirname(final)
    if os.path.lexists(final) and not stat.S_ISREG(os.stat(final).st_mode):
        kind = "a folder" if os.path.isdir(final) else "a device, pipe or socket"
        raise error(f"{what}: {final!r} is {kind}", expected="the path of a file, new or old", actual=kind,
                    remedy="add a file name" if os.path.isdir(final) else "choose another path")  # fmt: skip
    if not os.path.isdir(folder):
        raise error(
            f"{what}: there is no folder {folder!r}",
            expected="an existing folder",
            actual="nothing at that path",
            remedy=f"create it first: os.makedirs({folder!r})",
        )
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(final)[:64]}.", suffix=".part", dir=folder)
        os.close(handle)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, _permissions(final))
        os.replace(temporary, final)
        temporary = None
    except OSError as reason:
        if isinstance(reason, error):
            raise
        _remove(temporary)
        untouched = "the file that was there is unchanged" if os.path.exists(final) else "nothing was written"
        if reason.errno in OUT_OF_SPACE:
            size, free = needed(), shutil.disk_usage(folder).free
            raise error(
                f"{what}: no room for {final!r}: {reason.strerror}",
                expected=f"{size:,} bytes",
                actual=f"{free:,} bytes free in {folder!r}; {untouched}",
                remedy="free some space (or raise the quota or file-size limit), or choose another folder",
            ) from reason
        raise error(f"{what}: cannot write {final!r}", expected=f"a folder that can be written to: {folder!r}",
                    actual=f"{reason.strerror or reason}; {untouched}",
                    remedy="check the permissions, or choose another folder") from reason  # fmt: skip
    finally:
        _remove(temporary)
    _sync_folder(folder)


def _remove(temporary: str | None) -> None:
    if temporary is not None and os.path.exists(temporary):
        os.unlink(temporary)


def _permissions(final: str) -> int:
    """Those of the file to be replaced, else what an ordinary new file gets."""
    if os.path.exists(final):
        return stat.S_IMODE(os.stat(final).st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: str) -> None:
    """Force the new name to the disk as well. Windows and some network disks cannot, and then have no more to offer."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
