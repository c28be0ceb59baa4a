"""Who may use the Ray and the folder of a run: addresses, tokens and locks."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def secure_ray() -> None:
    """Settle who can reach Ray. Must run before Ray is imported, which reads it once.

    Without RAY_ADDRESS, a Ray of this process's own is meant: it listens on loopback alone, and
    gets a random token that only this user can read. With RAY_ADDRESS, the mode of that cluster
    must be said by RAY_AUTH_MODE; unsaid, it is ``token``, never "whatever file lies in the home
    folder".
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ.get("RAY_ADDRESS"):
        return
    # Ray's only way to loopback: where it expects no cluster, it takes 127.0.0.1 for its address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    unset = not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if unset and os.environ["RAY_AUTH_MODE"] == "token":
        handle, path = tempfile.mkstemp(prefix="tlmt-ray-token-")
        os.write(handle, secrets.token_hex(32).encode())
        os.close(handle)
        os.environ["RAY_AUTH_TOKEN_PATH"] = path
        atexit.register(Path(path).unlink, missing_ok=True)


@contextlib.contextmanager
def held(folder: Path, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock file of a run folder, waiting some seconds for it at most.

    Raises ``ValueError`` if another process keeps it.
    """
    with (folder / name).open("w") as file:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise ValueError(
                        f"{folder} is in use by another process. Wait until that one has ended, "
                        f"or stop it, and try again."
                    ) from None
                time.sleep(0.2)
        yield
