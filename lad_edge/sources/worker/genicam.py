"""GigE Vision and USB3 Vision cameras through Aravis: settings go in, whole buffers come out, all others as FRAME_INCOMPLETE."""

from __future__ import annotations

import ctypes
import time
from contextlib import suppress
from typing import Any

import gi

gi.require_version("Aravis", "0.8")

from gi.repository import Aravis, GLib  # noqa: E402

from lad_edge.sources.worker.driver import DriverError, Room, Shot  # noqa: E402
from lad_edge.sources.worker.frame_ids import FrameIds  # noqa: E402

_BUFFERS = 8
_POLL_US = 20_000  # a software trigger waits for no longer than that
_HEARTBEAT_MS = 1500  # after that a camera forgets a program that was killed; the usual 3000 would be missed parts
_CONTROL_CHANNEL_PRIVILEGE = 0x0A00  # GigE Vision bootstrap register: 0 = nobody controls the camera
_ASK_S = 0.25  # between two questions to a camera that waits for its trigger
_FEWEST_PERIODS = 4  # without a picture, before a free-running camera is lost
_OLDEST_NS = 2_000_000_000  # a buffer's wall-clock time that is further back was set by a clock that jumped

# Codes of the Pixel Format Naming Convention (EMVA, PFNC 2.x) → our names.
_FORMATS = {
    0x01080001: "mono8",
    0x01100007: "mono16",
    0x02180014: "rgb8",
    0x02180015: "bgr8",
    0x01080008: "bayer_gr8",
    0x01080009: "bayer_rg8",
    0x0108000A: "bayer_gb8",
    0x0108000B: "bayer_bg8",
}


class GenicamDriver:
    """One camera; request: address (serial number, IP address or Aravis id; empty = the only one), size, options, opened.

    options: exposure in µs, gain in dB, fps, format by its GenICam name, size, offset, packet in bytes; trigger, with the standard features
    `line` (TriggerSource), `activation` (TriggerActivation) and `delay` (TriggerDelay in µs).
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._wanted, self._size, self._options = request["address"], request["size"], request["options"]
        self._seen_at = request.get("opened", "").rpartition(" at ")[2]  # where this camera was last time
        self._silence_s = float(self._options.get("silence", 1.0))
        self._camera: Any = None
        self._stream: Any = None
        self._memory: dict[int, Any] = {}  # first byte → the buffer's memory
        self._ids = FrameIds()
        self._lost = False

    def open(self) -> str:
        """Finds the camera, takes control, writes the settings, starts. Raises DriverError."""
        try:
            self._camera = self._find()
            self._check_control()
            self._configure()
            self._start()
            return self._description()
        except GLib.Error as exc:
            raise DriverError(f"the camera {self._name()} does not open: {exc.message}") from exc

    def read(self, room: Room) -> Shot | None:
        """The next buffer. Raises DriverError when a free-running camera has sent nothing for too long, or one that waits is not there."""
        buffer = self._stream.timeout_pop_buffer(_POLL_US)
        if buffer is None:
            self._check_silence() if self._free_running else self._check_control_channel()
            return None
        self._heard_s = time.monotonic()
        try:
            return self._shot(buffer, room)
        finally:
            self._stream.push_buffer(buffer)

    def trigger(self) -> None:
        """Takes one picture. Raises DriverError."""
        try:
            self._camera.software_trigger()
        except GLib.Error as exc:
            raise DriverError(f"{self._name()} does not take the trigger: {exc.message}") from exc

    def close(self) -> None:
        """Stops the camera and gives up control; only the latter if it does not answer.

        A camera that was cut off for a moment then finds the word in its queue, and need not wait for our heartbeat to run out.
        """
        if self._camera is None:
            return
        with suppress(GLib.Error):
            if not self._lost:
                self._camera.stop_acquisition()
            elif self._camera.is_gv_device():
                self._camera.get_device().leave_control()
        self._stream = self._camera = None

    def _find(self) -> Any:
        """By its address of last time, which takes milliseconds, else by asking the whole network, which takes a second."""
        if self._seen_at:
            return Aravis.Camera.new(self._seen_at)
        if self._wanted.count(".") == 3 and self._wanted.replace(".", "").isdecimal():
            return Aravis.Camera.new(self._wanted)
        found = cameras()
        fitting = [camera for camera in found if self._wanted in ("", camera["serial"], camera["id"])]
        if len(fitting) == 1:
            return Aravis.Camera.new(fitting[0]["id"])
        seen = ", ".join(f"genicam://{camera['serial']}" for camera in found) or "none"
        what = "more than one fits" if fitting else "it is not found"
        raise DriverError(
            f"the camera {self._name()} does not open: {what}; cameras that answer: {seen}; see 'lad-edge camera doctor'"
        )

    def _check_control(self) -> None:
        serial, wanted = self._camera.get_device_serial_number(), self._options.get("serial", self._wanted)
        by_serial = wanted and "." not in wanted and wanted != self._camera.get_device_id()
        if by_serial and serial != wanted and not wanted.endswith(f"-{serial}"):
            raise DriverError(
                f"at {self._seen_at or self._wanted} answers the camera {serial}, not {wanted}; plug in the right one, or correct "
                "the serial number",
                "WRONG_CAMERA",
            )
        device = self._camera.get_device()
        if self._camera.is_gv_device() and not device.is_controller():
            raise DriverError(
                f"the camera {serial} is controlled by another program, on this or another machine; end that one, or wait some "
                "seconds if it has just ended",
                "CAMERA_BUSY",
            )

    def _configure(self) -> None:
        camera, options = self._camera, self._options
        with suppress(GLib.Error):
            camera.stop_acquisition()  # a program that was killed may have left it running
        # By itself Aravis writes any number, of which cameras make their nearest one, or nonsense.
        camera.set_range_check_policy(Aravis.RangeCheckPolicy.ENABLE)
        if "format" in options:
            camera.set_pixel_format_from_string(options["format"])
        if self._size:
            x, _, y = options.get("offset", "0x0").partition("x")
            with suppress(GLib.Error):  # a camera that cannot is refused by the gate, with both sizes
                camera.set_region(int(x), int(y), *self._size)
        self._set_brightness()
        self._set_trigger(options.get("trigger", "off"))
        if camera.is_gv_device():
            with suppress(GLib.Error):
                camera.get_device().set_integer_feature_value("GevHeartbeatTimeout", _HEARTBEAT_MS)
            with suppress(GLib.Error):
                self._set_packets(options.get("packet"))

    def _set_brightness(self) -> None:
        """Exposure and gain; the camera's own automatic would change them again, and is turned off."""
        camera, options = self._camera, self._options
        if "exposure" in options:
            if camera.is_exposure_auto_available():
                camera.set_exposure_time_auto(Aravis.Auto.OFF)
            camera.set_exposure_time(float(options["exposure"]))
        if "gain" in options:
            if camera.is_gain_auto_available():
                camera.set_gain_auto(Aravis.Auto.OFF)
            camera.set_gain(float(options["gain"]))

    def _set_trigger(self, trigger: str) -> None:
        """software: a picture for each `trigger`; line: for each edge at the input `line` (Line1); off: at the rate `fps`."""
        if trigger == "software":
            self._camera.set_trigger("Software")
        elif trigger == "line":
            self._set_line(self._options.get("line", "Line1"), self._options.get("activation", "RisingEdge"))
        else:
            self._camera.clear_triggers()
            if "fps" in self._options:
                self._camera.set_frame_rate(float(self._options["fps"]))
        self._free_running = trigger == "off"

    def _set_line(self, source: str, activation: str) -> None:
        """TriggerSelector=FrameStart and TriggerMode=On, for edges at that input."""
        self._check_known("TriggerSource", source)
        self._camera.set_trigger(source)
        self._check_known("TriggerActivation", activation)
        self._camera.set_string("TriggerActivation", activation)
        if "delay" in self._options:
            self._camera.set_float("TriggerDelay", float(self._options["delay"]))

    def _check_known(self, feature: str, value: str) -> None:
        known = self._camera.dup_available_enumerations_as_strings(feature)
        if value not in known:
            raise DriverError(f"the camera {self._name()} has no {feature} {value}; it has {', '.join(known)}")

    def _set_packets(self, size: str | None) -> None:
        if size is None:
            self._camera.gv_auto_packet_size()
        else:
            self._camera.gv_set_packet_size(int(size))

    def _start(self) -> None:
        """Buffers lie in memory of ours: their pixels are copied once, into the slot."""
        size = self._camera.get_payload()
        self._stream = self._camera.create_stream(None, None)
        for _ in range(_BUFFERS):
            memory = (ctypes.c_ubyte * size)()
            buffer = Aravis.Buffer.new(size, ctypes.addressof(memory))
            self._memory[hash(buffer)] = memory
            self._stream.push_buffer(buffer)
        rate = 0.0
        with suppress(GLib.Error):
            rate = self._camera.get_frame_rate()
        self._patience_s = max(self._silence_s, _FEWEST_PERIODS / rate if rate > 0 else 0.0)
        self._heard_s = time.monotonic()
        self._camera.start_acquisition()

    def _shot(self, buffer: Any, room: Room) -> Shot:
        number, moment = int(buffer.get_frame_id()), _captured(buffer.get_system_timestamp())
        missing = self._ids.missing_before(number)
        if buffer.get_status() != Aravis.BufferStatus.SUCCESS:
            detail = f"frame {number} of {self._name()} is damaged: {buffer.get_status().value_nick}"
            return Shot(*moment, device_id=number or -1, missing=missing, fault="FRAME_INCOMPLETE", detail=detail)
        pixels = room()
        if pixels is None:
            return Shot(*moment, missing=missing)
        memory = self._memory[hash(buffer)]
        width, height, code = buffer.get_image_width(), buffer.get_image_height(), buffer.get_image_pixel_format()
        size = min(len(memory), width * height * (code >> 16 & 0xFF) // 8)  # PFNC codes hold the bits of a pixel
        pixels[:size] = memoryview(memory).cast("B")[:size]
        name = _FORMATS.get(code, f"pfnc_{code:08x}")
        return Shot(*moment, width, height, size, name, number, missing)

    def _check_silence(self) -> None:
        silent_s = time.monotonic() - self._heard_s
        if silent_s > self._patience_s:
            self._lost = True
            raise DriverError(f"{self._name()} has sent no picture for {silent_s:.1f} s")

    def _check_control_channel(self) -> None:
        """A camera that waits for its trigger is silent and well. One that has gone holds us here until the parent ends this process."""
        if not self._camera.is_gv_device() or time.monotonic() - self._heard_s < _ASK_S:
            return
        try:
            privilege = self._camera.get_device().read_register(_CONTROL_CHANNEL_PRIVILEGE)
        except GLib.Error as exc:
            self._lost = True
            raise DriverError(f"{self._name()} does not answer: {exc.message}") from exc
        if not privilege:
            self._lost = True
            raise DriverError(
                f"{self._name()} has forgotten who controls it: it was restarted, or cut off for too long"
            )
        self._heard_s = time.monotonic()

    def _description(self) -> str:
        camera = self._camera
        name = f"{camera.get_vendor_name()} {camera.get_model_name()} {camera.get_device_serial_number()}"
        address = self._address()
        return f"{name} at {address}" if address else name

    def _address(self) -> str:
        """IP address of a GigE camera; empty for USB."""
        if not self._camera.is_gv_device():
            return ""
        return str(self._camera.get_device().get_device_address().get_address().to_string())

    def _name(self) -> str:
        return f"genicam:{self._wanted or 'any'}"


def cameras() -> list[dict[str, str]]:
    """What answers on all networks and USB ports, after about a second: id, serial, vendor, model, address, protocol."""
    Aravis.update_device_list()
    return [
        {
            "id": Aravis.get_device_id(index) or "",
            "serial": Aravis.get_device_serial_nbr(index) or "",
            "vendor": Aravis.get_device_vendor(index) or "",
            "model": Aravis.get_device_model(index) or "",
            "address": Aravis.get_device_address(index) or "",
            "protocol": Aravis.get_device_protocol(index) or "",
        }
        for index in range(Aravis.get_n_devices())
    ]


def _captured(stamp_ns: int) -> tuple[int, int]:
    """Monotonic and wall clock of the first packet, from the wall-clock stamp that Aravis gives it."""
    monotonic_ns, utc_ns = time.monotonic_ns(), time.time_ns()
    age_ns = utc_ns - stamp_ns
    if not 0 <= age_ns < _OLDEST_NS:
        age_ns = 0
    return monotonic_ns - age_ns, utc_ns - age_ns
