"""The folder of the local stores: its owner, its locks, and the secrets it keeps."""

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

# The path of a Unix socket may have 108 bytes on Linux and 104 on macOS.
MAX_SOCKET_PATH = 100  # bytes


class StoreError(Exception):
    """A local store cannot be used. The text says what to do about it."""


class DataDirectory:
    """DATA_DIR, created if missing. Raises `StoreError` if this user cannot use it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.uid, self.gid = (info := self.path.stat()).st_uid, info.st_gid
        except OSError as error:
            raise StoreError(f"Cannot create {self.path}: {error.strerror}. Set DATA_DIR to another folder.") from error
        if os.geteuid() not in (0, self.uid):
            raise StoreError(
                f"{self.path} belongs to {_name_of(self.uid)}, and you are {_name_of(os.geteuid())}. "
                "Run as its owner, or set DATA_DIR to another folder."
            )

    def __str__(self) -> str:
        """The path, relative to the current folder if it is below it."""
        here = Path.cwd()
        return str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path)

    def hand_over(self, path: Path) -> None:
        """Gives what root made in another user's folder to that user, so that the user can run here again."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)

    def open(self, name: str) -> int:
        """Returns a descriptor of the file `name`, created if missing. Programs started from here do not inherit it."""
        path = self.path / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.hand_over(path)
        return descriptor

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock of the folder: no other process can start, join or leave the stores."""
        descriptor = self.open("start.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def secret(self, name: str) -> str:
        """A random text, the same at every start, so that tokens and logins survive a restart."""
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
        """User and group for a program that refuses to be root: the current user, the folder's owner, or `nobody`."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        if self.uid != 0:
            return self.uid, self.gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def unprivileged_prefix(self) -> list[str]:
        """The prefix of a command that runs as `unprivileged`. Raises `StoreError` if that is impossible.

        The repository may lie below a folder that only root may enter, such as /root, so the prefix keeps the
        capability to pass it. It needs `no_setuid_fixup` because initdb calls access(2), which checks only the
        capabilities that survive the change of user.
        """
        if os.geteuid() != 0:
            return []
        uid, gid = self.unprivileged()
        prefix = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--securebits=+no_setuid_fixup"]
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        if shutil.which("setpriv") is None or programs.run([*prefix, "true"]).returncode:
            raise StoreError(
                "PostgreSQL and RabbitMQ do not run as root, and `setpriv` (util-linux) cannot run them as another user "
                "here. Run as an ordinary user, or set DATABASE_URL, and BROKER_URL if there is BROKER=on."
            )
        return prefix

    def socket_directory(self, wanted: Path, socket: str) -> Path:
        """Returns `wanted`, or a short private folder if the path of `socket` in it is too long or has a comma.

        PostgreSQL's clients read a comma as the separator between two hosts.
        """
        if len(os.fsencode(wanted / socket)) <= MAX_SOCKET_PATH and "," not in str(wanted):
            return wanted
        return Path(tempfile.gettempdir()) / f"leaderboard-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"

    def make_socket_directory(self, path: Path) -> None:
        """Creates `path` as a private folder, or checks that it is one: another user may own the name in /tmp."""
        uid, gid = self.unprivileged()
        if not os.path.lexists(path):
            path.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path, uid, gid)
        if not self._is_private(path):
            raise StoreError(
                f"{path} is not a private folder of {_name_of(uid)}. Remove it, or set a shorter DATA_DIR."
            )

    def remove_socket_directory(self, path: Path) -> None:
        """Removes what `make_socket_directory` made, and nothing that another user made."""
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
