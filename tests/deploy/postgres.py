"""A PostgreSQL server of our own, on a Unix socket, for as long as the tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url


def server(binaries: Path) -> Iterator[str]:
    """Start it with the programs in `binaries`; yields the URL. PostgreSQL refuses to run as root: then as `postgres`."""
    root = os.getuid() == 0
    if root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL can't run as root, and there is no runuser to become somebody else")
    prefix = ["runuser", "-u", "postgres", "--"] if root else []
    user = "postgres" if root else "trimtab"
    with tempfile.TemporaryDirectory(prefix="trimtab-postgres-") as name:  # a socket's path must be short
        folder = Path(name)
        if root:
            shutil.chown(folder, "postgres")

        def run(program: str, *arguments: str) -> None:
            command = [*prefix, str(binaries / program), *arguments]
            subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=120)

        data = str(folder / "data")
        run("initdb", "-D", data, "-U", user, "-A", "trust", "--no-sync", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", f"-F -k {folder} -h ''", "start")
        try:
            yield f"postgresql+psycopg://{user}@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


@contextmanager
def fresh(url: str, name: str) -> Iterator[str]:
    """The URL of a database of this name on the server of `url`, made for this and removed after."""
    _say(url, f"CREATE DATABASE {name}")
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        _say(url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """All of the server's processes stand still."""
    folder = make_url(url).query.get("host")
    file = Path(str(folder)) / "data" / "postmaster.pid"
    if not file.exists():
        pytest.skip("the PostgreSQL server is not ours to stop")
    first = int(file.read_text().splitlines()[0])
    os.kill(first, signal.SIGSTOP)  # so that no more are started
    children = [int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()]
    try:
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in [*children, first]:
            os.kill(pid, signal.SIGCONT)


def _say(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
