"""What a PLC's trigger needs of the parts of a line."""

from __future__ import annotations

import sys

import pytest

from lad_edge.errors import MissingDependencyError
from lad_edge.plc import open_plc
from lad_edge.stream.parts import Part, Parts
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Reason, Result, Verdict

WAIT_S = 20.0


def unjudged(part: Part, reason: Reason, detail: str) -> Result:
    return Result(part.seq, "", Verdict.UNKNOWN, (reason,), 0, 0, detail=detail, part_id=part.part_id)


def test_a_refused_part_is_settled_at_once_and_leaves_in_its_turn() -> None:
    parts = Parts(1, unjudged, wait_when_full=False)
    first = parts.trigger("first")
    second = parts.refuse("second", Reason.CAMERA_BUSY, "busy")
    assert first is not None
    assert second is not None
    assert second.result == unjudged(second, Reason.CAMERA_BUSY, "busy")
    assert parts.leave() is None
    parts.settle_all(Reason.STOPPING, "stopped")
    assert [parts.leave(), parts.leave()] == [first, second]
    assert parts.triggered == 2


def test_nothing_is_refused_once_the_line_ends() -> None:
    parts = Parts(1, unjudged, wait_when_full=False)
    parts.close()
    assert parts.refuse("late", Reason.CAMERA_BUSY, "busy") is None
    assert parts.triggered == 0


@pytest.mark.parametrize(
    ("uri", "package", "modules"),
    [
        ("modbus://127.0.0.1:0", "pymodbus.constants", ["lad_edge.plc.modbus"]),
        ("opcua://127.0.0.1:0", "asyncua", ["lad_edge.plc.opcua", "lad_edge.plc.opcua_security"]),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    uri: str, package: str, modules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in modules:
        monkeypatch.delitem(sys.modules, module, raising=False)
    extra = uri.partition(":")[0]
    with pytest.raises(MissingDependencyError, match=rf"pip install 'lad-edge\[{extra}\]'"):
        open_plc(uri, Beats(), print)
