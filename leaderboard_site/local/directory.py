"""The folder that holds the local stores: whose it is, who may do what in it at one time, and the secrets it keeps."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import programs

# A Unix socket's address holds 108 bytes on Linux and 104 on macOS.
LONGEST_ADDRESS = 100


class StoreError(Exception):
    """A local store cannot be had. The text says what to do about it."""


class DataDirectory:
    """DATA_DIR. It is made if it is not there; raises `StoreError` if this user cannot use it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.uid, self.gid = (info := self.path.stat()).st_uid, info.st_gid
        except OSError as error:
            raise StoreError(
                f"Cannot make {self.path}: {error.strerror}. Choose another place with DATA_DIR."
            ) from error
        if os.geteuid() not in (0, self.uid):
            raise StoreError(
                f"{self.path} belongs to {_name_of(self.uid)}, and this is {_name_of(os.geteuid())}: the data in it cannot be "
                "used. Run as its owner, or choose another place with DATA_DIR."
            )

    def __str__(self) -> str:
        """As a person at the terminal would write it."""
        here = Path.cwd()
        return str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path)

    def hand_over(self, path: Path) -> None:
        """Give what root made in another user's folder to that user, who will want to run here again."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)

    def open(self, name: str) -> int:
        """A descriptor of the file `name`, made if need be. Programs started from here do not inherit it."""
        path = self.path / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.hand_over(path)
        return descriptor

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While in here, nobody else starts, joins or leaves the stores."""
        descriptor = self.open("start.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def secret(self, name: str) -> str:
        """A random text that stays the same from start to start, so that tokens and logins outlive one."""
        path = self.path / "secrets.json"
        with self.alone():
            known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
            if name not in known:
                known[name] = secrets.token_urlsafe(48)
                new = self.path / "secrets.json.new"
                new.unlink(missing_ok=True)
                new.touch(mode=0o600)
                new.write_text(json.dumps(known, indent=2) + "\n")
                self.hand_over(new)
                new.replace(path)
            return known[name]

    def unprivileged(self) -> tuple[int, int]:
        """User and group of a program that refuses to be root: ourselves, or the folder's owner, or `nobody`."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        if self.uid != 0:
            return self.uid, self.gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def unprivileged_prefix(self) -> list[str]:
        """What to write before a command so that it runs as `unprivileged`. Raises `StoreError` where that is impossible.

        The clone may lie below a folder only root may enter, such as /root, so the capability to pass it is kept;
        `no_setuid_fixup` because access(2), which initdb asks, looks only at what survives the change of user.
        """
        if os.geteuid() != 0:
            return []
        uid, gid = self.unprivileged()
        prefix = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--securebits=+no_setuid_fixup"]
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        if shutil.which("setpriv") is None or programs.run([*prefix, "true"]).returncode:
            raise StoreError(
                "PostgreSQL does not run as root, and `setpriv` (util-linux) cannot make it another user's here. "
                "Run as an ordinary user, or set DATABASE_URL."
            )
        return prefix

    def socket_directory(self, wanted: Path, socket: str) -> Path:
        """`wanted`, or a short private folder if the address of `socket` in it would be too long or hold a comma.

        To PostgreSQL's clients a comma parts one host from the next.
        """
        if len(os.fsencode(wanted / socket)) <= LONGEST_ADDRESS and "," not in str(wanted):
            return wanted
        return Path(tempfile.gettempdir()) / f"leaderboard-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"

    def make_socket_directory(self, path: Path) -> None:
        """Make `path` private, or see that it is: in /tmp anybody could have taken the name before us."""
        uid, gid = self.unprivileged()
        if not os.path.lexists(path):
            path.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path, uid, gid)
        if not self._is_private(path):
            raise StoreError(
                f"{path} is not a private folder of {_name_of(uid)}. Remove it, or choose a shorter DATA_DIR."
            )

    def remove_socket_directory(self, path: Path) -> None:
        """Remove what `make_socket_directory` made, and nothing that somebody else did."""
        if os.path.lexists(path) and self._is_private(path):
            shutil.rmtree(path, ignore_errors=True)

    def _is_private(self, path: Path) -> bool:
        info = path.lstat()
        return stat.S_ISDIR(info.st_mode) and info.st_uid == self.unprivileged()[0] and not info.st_mode & 0o077


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
