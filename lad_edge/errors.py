"""The exception tree. Every message says what was expected, what came and what to do; each class fixes an exit code."""

from __future__ import annotations


class LadEdgeError(Exception):
    """Base of all errors that lad-edge raises on purpose. `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(LadEdgeError):
    """A flag, a configuration value or an argument is wrong."""


class DataError(LadEdgeError):
    """Training or evaluation data cannot be used: missing, unreadable, mixed, leaking."""

    exit_code = 2


class ParityError(LadEdgeError):
    """Two implementations that must agree do not: the export, a golden frame, a self-test."""

    exit_code = 3


class EngineError(LadEdgeError):
    """The engine is missing, cannot run here, or failed while running. `reason`: what stands in the record of a part that it failed on."""

    exit_code = 4
    reason = "ENGINE_CRASH"


class GpuFaultError(EngineError):
    """The GPU failed under the engine: CUDA's context of this process is lost."""

    reason = "GPU_FAULT"


class GpuMemoryError(EngineError):
    """The GPU has too little free memory."""

    reason = "GPU_MEMORY"


class SourceError(LadEdgeError):
    """The camera or another source of frames does not open or has gone."""

    exit_code = 5


class SinkError(LadEdgeError):
    """A result cannot be written: disk full, no permission, connection lost."""

    exit_code = 6


class DeadlineError(LadEdgeError):
    """Deadlines were missed more often than allowed."""

    exit_code = 7


class BundleError(LadEdgeError):
    """The bundle is damaged, foreign or of another format version. The message begins with a stable code E_BUNDLE_*."""

    exit_code = 8


class MissingDependencyError(LadEdgeError):
    """An optional package is needed; the message names the command that installs it."""
