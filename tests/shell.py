"""A shell as a reader of the README has it: what was started in it goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from select import select

BLOCK_SECONDS = 120.0
STARTED_SECONDS = 30.0
IN_BACKGROUND = re.compile(r"--port[ =](\d+).*[^&]&\s*$", re.MULTILINE)
RUN = "{{ set -e; . {script}; set +e; }} >{out} 2>{err} </dev/null; echo $?\n"


@dataclass(frozen=True)
class Output:
    """What a block printed, and its exit status."""

    status: int
    out: str
    err: str


@dataclass
class Shell:
    """A bash in ``folder``. What a block exports, changes or leaves running stays for the next."""

    folder: Path
    scratch: Path
    environment: Mapping[str, str]
    _shells: list[subprocess.Popen[str]] = field(default_factory=list)

    def paste(self, commands: str) -> Output:
        """Run the commands, up to the first that fails; wait for the server they leave behind."""
        script, out, err = (self.scratch / name for name in ("script", "out", "err"))
        script.write_text(f"{commands}\n", encoding="utf-8")
        status = self._told(RUN.format(script=script, out=out, err=err))
        for port in IN_BACKGROUND.findall(commands):
            self._await_server(int(port), err)
        return Output(status, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def close(self) -> None:
        """End the shell and everything that was started in it."""
        for shell in self._shells:
            # The group outlives its shell for as long as a server of it runs.
            for how in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(shell.pid, how)
                except ProcessLookupError:
                    break
                time.sleep(0.5 if how == signal.SIGTERM else 0)
            shell.wait()
            for pipe in (shell.stdin, shell.stdout):
                assert pipe is not None
                pipe.close()

    def _told(self, line: str) -> int:
        shell = self._shell()
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(line)
        shell.stdin.flush()
        ready, _, _ = select([shell.stdout], [], [], BLOCK_SECONDS)
        assert ready, f"the block took longer than {BLOCK_SECONDS:g} s"
        # A command that fails ends the shell, as `set -e` has it: then there is no line.
        return int(shell.stdout.readline() or shell.wait())

    def _shell(self) -> subprocess.Popen[str]:
        if not self._shells or self._shells[-1].poll() is not None:
            self._shells.append(
                subprocess.Popen(
                    ["bash", "--noprofile", "--norc"],
                    cwd=self.folder,
                    env=dict(self.environment),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        return self._shells[-1]

    def _await_server(self, port: int, err: Path) -> None:
        deadline = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"nothing listens on port {port}: {err.read_text(encoding='utf-8')}")
