"""The bytes of one local file, which FFmpeg gets from a file object: no name is parsed, no fault of the disk lost."""

import os
import stat

from gcf.errors import VideoError


class UnreadableError(VideoError):
    """The file system did not give the file, or not all of it; `errno` says how."""

    def __init__(self, message: str, errno: int):
        super().__init__(message)
        self.errno = errno


class SourceFile:
    """An open regular file with the read, seek and tell that PyAV asks for; closed when nobody holds it any more.

    What a container makes of a failed read is its own affair: some end early, some skip, some call the data invalid.
    Here reading simply ends, and `fault` has the OSError. Raises UnreadableError and VideoError on opening.
    """

    def __init__(self, path: bytes):
        self.descriptor, self.fault = -1, None
        self.descriptor, self.stat = _open_regular(path)
        self.name = os.fsdecode(path)  # FFmpeg looks at its suffix where the content leaves it a choice

    def read(self, count: int) -> bytes:
        """At most `count` bytes; none at the end and after a fault."""
        if self.fault:
            return b""
        try:
            return os.read(self.descriptor, count)
        except OSError as error:
            self.fault = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; gives it as counted from the beginning."""
        return os.lseek(self.descriptor, offset, whence)

    def tell(self) -> int:
        """The place from which the next byte comes."""
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    def head(self) -> bytes:
        """The first eight bytes; fewer after a fault."""
        self.seek(0)
        return self.read(8)

    def mentions(self, word: bytes) -> bool:
        """Whether the word stands in the first or last mebibyte, where containers keep their headers."""
        for place in {0, max(0, self.stat.st_size - (1 << 20))}:
            self.seek(place)
            if word in self.read(1 << 20):
                return True
        return False

    def __del__(self):
        if self.descriptor >= 0:
            os.close(self.descriptor)


def is_inside(path: str | os.PathLike, root: str | os.PathLike) -> bool:
    """Whether `path` lies in the folder `root` once all links are followed."""
    real, within = (os.path.realpath(os.fsencode(p)) for p in (path, root))
    return os.path.commonpath([real, within]) == within


def require_inside(path: str | os.PathLike, root: str | os.PathLike) -> None:
    """Raise VideoError when links lead from `path` out of the folder `root`."""
    if not is_inside(path, root):
        raise VideoError("a link leads out of the folder of the videos (--stay-inside)")


def _open_regular(path: bytes) -> tuple[int, os.stat_result]:
    """Descriptor and stat of a regular, non-empty, readable file; a FIFO or device is never waited for."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # first: to open a device may set it going
            raise VideoError("not a regular file")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {os.strerror(error.errno)}", error.errno) from None
    except ValueError:
        raise VideoError("cannot be opened: its name has a null character") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size:
        return descriptor, found
    os.close(descriptor)
    raise VideoError("empty" if stat.S_ISREG(found.st_mode) else "not a regular file")  # exchanged since the first look
