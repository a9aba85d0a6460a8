"""Cuts the power of a disk that an outbox writes to: python power_cut.py FOLDER CYCLES SYNCHRONOUS.

The disk is a file with ext4 on a loop device. A forked writer is frozen at a random moment, and the file is copied as it is:
without anything that the kernel has not written to it yet. What the copy holds after its journal was replayed is what a power
cut leaves on an honest disk. Prints one line for each cut: records acknowledged before it, records found after it.
Exit code 77: no loop device can be mounted here.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select

from outbox_samples import frame, open_outbox, results, seqs, stored

from lad_edge.outputs.ledger import verify

_DISK_BYTES = 32 << 20


def main(folder: Path, cycles: int, synchronous: str) -> None:
    """Each cut hits the same growing outbox."""
    disk, after = folder / "disk.img", folder / "after.img"
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    chance, acknowledged = random.Random(9), 0
    with mounted(disk, folder / "mounted") as before:
        for boot in range(cycles):
            acknowledged = max(
                acknowledged, cut(before, disk, after, f"boot-{boot}", synchronous, chance.uniform(0.02, 0.25))
            )
            with mounted(after, folder / "remounted") as remains:
                print(acknowledged, found(remains) if acknowledged else 0, flush=True)


def cut(folder: Path, disk: Path, after: Path, boot_id: str, synchronous: str, after_s: float) -> int:
    """The highest seq that was acknowledged when the power went."""
    reader, report = os.pipe()
    child = os.fork()
    if not child:
        write(folder, boot_id, synchronous, report)
    os.close(report)
    time.sleep(after_s)
    os.kill(child, signal.SIGSTOP)
    time.sleep(0.01)
    os.set_blocking(reader, False)
    said = os.read(reader, 1 << 20).decode() if readable(reader) else ""
    shutil.copyfile(disk, after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    return max([0, *map(int, said.split())])


def write(folder: Path, boot_id: str, synchronous: str, report: int) -> None:
    """Until it is killed."""
    outbox = open_outbox(folder / "r.sqlite", boot_id)
    outbox._ledger._connection.execute(f"PRAGMA synchronous = {synchronous}")
    for seq in range(outbox.next_seq, 10**6):
        outbox.write(frame(), results(seq, seq)[0])
        if seq % 5 == 0:
            assert outbox.flush(60)
            os.write(report, f"{seq}\n".encode())


def readable(reader: int) -> bool:
    """True if something waits in the pipe."""
    return bool(select([reader], [], [], 0)[0])


def found(folder: Path) -> int:
    """Records of the outbox, all of them whole and in order."""
    path = folder / "r.sqlite"
    open_outbox(path, "after").close()
    assert not list(folder.glob("*.bad-*"))
    assert seqs(stored(path)) == list(range(1, verify(path) + 1))
    return verify(path)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """The file system in that file."""
    place.mkdir(exist_ok=True)
    attempt = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True, check=False)
    if attempt.returncode:
        print(attempt.stderr.strip(), file=sys.stderr)
        sys.exit(77)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
