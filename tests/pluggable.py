"""A camera or server that is a process: it can be pulled out, frozen and thawed. Standard library only: any Python imports it."""

from __future__ import annotations

import signal
import subprocess


class Pluggable:
    """Base; `plug_in` of the subclass starts `process`."""

    process: subprocess.Popen[bytes]

    def pull_out(self) -> None:
        """As a cable is pulled: no goodbye."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """It keeps its address and its connections, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)
