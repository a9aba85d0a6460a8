"""lad-edge service: a configuration goes in, a hardened systemd unit comes out."""

from __future__ import annotations

import argparse
import ipaddress
import re
import shlex
import shutil
import sys
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lad_edge.errors import UsageError
from lad_edge.outputs.address import FILES, is_address, parse
from lad_edge.plc import uri as plc_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS = Path("/etc/systemd/system")
_HOMES = ("/home", "/root", "/run/user")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_GPU_NODES = (
    "/dev/nvidia0",
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvhost-ctrl",
    "/dev/nvmap",
)

_FIRST_FREE_PORT, _LOW_PORTS = 1024, "CAP_NET_BIND_SERVICE"

_EPILOG = """\
examples:
  lad-edge service print -c line3.toml
  sudo lad-edge service install -c /etc/lad-edge/line3.toml --allow-net 10.0.7.0/24

The unit starts 'lad-edge run -c FILE' at boot, restarts it for ever, and kills it when it makes no progress for five
seconds. It may reach this machine and the networks that are named, nothing else; it may write to its state folder
/var/lib/lad-edge, which is where relative paths of the configuration lead. What it says goes to the journal, which rotates by itself; its
records only if the configuration asks for them with 'json' or 'lines'.
"""

# reliability.md §6.6 says why each of the settings is there, and why MemoryDenyWriteExecute, PrivateDevices and ProtectClock are not:
# they break what compiles kernels at run time, or hide the camera.
_UNIT = Template("""\
[Unit]
Description=lad-edge: $name
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStartPre=$program run --check -c $config
ExecStart=$program run -c $config
ExecReload=/bin/kill -HUP $$MAINPID
WatchdogSec=5
WatchdogSignal=SIGKILL
Restart=always
RestartSec=500ms
TimeoutStartSec=120
TimeoutStopSec=10
StandardOutput=$output
StandardError=journal
LogRateLimitIntervalSec=30s
LogRateLimitBurst=500

User=$user
Group=$user
SupplementaryGroups=video
UMask=0077
WorkingDirectory=/var/lib/lad-edge
StateDirectory=lad-edge
LogsDirectory=lad-edge
RuntimeDirectory=lad-edge
ConfigurationDirectory=lad-edge

NoNewPrivileges=yes
CapabilityBoundingSet=$capabilities
AmbientCapabilities=$capabilities
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
KeyringMode=private
LockPersonality=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @obsolete
SystemCallErrorNumber=EPERM
DevicePolicy=closed
$devices
IPAddressDeny=any
$networks

MemoryHigh=80%
MemoryMax=90%
OOMScoreAdjust=-500
TasksMax=256
LimitNOFILE=4096
LimitCORE=0

[Install]
WantedBy=multi-user.target
""")


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "service",
        help="run a line at boot, as a hardened systemd service",
        description="Writes a systemd unit that runs a line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("print", "install"), help="show the unit, or put it in place (as root)")
    parser.add_argument(
        "-c", "--config", type=Path, required=True, metavar="LINE.toml", help="as for 'lad-edge run -c'"
    )
    parser.add_argument("--name", help="of the service; default: the name of the configuration")
    parser.add_argument("--user", default="lad-edge", help="who runs it; default: lad-edge")
    parser.add_argument(
        "--allow-net", action="append", default=[], metavar="NET", help="camera or broker network, such as 10.0.7.0/24"
    )
    parser.add_argument("--units", type=Path, default=UNITS, metavar="FOLDER", help=f"default: {UNITS}")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prints the unit, or writes it and says what comes next."""
    from lad_edge.cli.run_checks import check_config

    told = check_config(args.config)
    name = args.name or args.config.stem
    if not _NAME.fullmatch(name) or not _USER.fullmatch(args.user):
        raise UsageError(f"a service and its user are named with a-z, 0-9 and '-'; came '{name}' and '{args.user}'")
    records = any(each.json or each.lines for each in told)
    output = "journal" if records else "null"
    unit = unit_text(name, args.config.resolve(), args.user, args.allow_net, output, serves_low_port(told))
    if args.action == "print":
        sys.stdout.write(unit)
        return 0
    path = args.units / f"lad-edge-{name}.service"
    _write(path, unit)
    print(f"wrote {path}; now, once:\n{_next_steps(path, args.user)}")
    for hidden in _hidden(args.config, told):
        print(f"note: ProtectHome=yes hides {hidden} from the service: keep it below /opt, /etc or /var/lib")
    for text in _unbounded(told):
        print(f"note: {text} grows for ever: 'jsonl:FILE?rotate=100MB&quota=2GB' keeps the newest records")
    return 0


def unit_text(
    name: str, config: Path, user: str, networks: list[str], output: str = "null", low_port: bool = False
) -> str:
    """The unit. output: where the records on standard output go, for systemd. low_port: it may listen below 1024.

    Raises UsageError for a network that is none.
    """
    return _UNIT.substitute(
        name=name,
        program=shlex.quote(_program()),
        output=output,
        capabilities=_LOW_PORTS if low_port else "",
        config=shlex.quote(str(config)),
        user=user,
        devices="\n".join(f"DeviceAllow={node} rw" for node in ("char-video4linux", "char-usb_device", *_GPU_NODES)),
        networks=f"IPAddressAllow={' '.join(['localhost', *map(_network, networks)])}",
    )


def serves_low_port(told: Sequence[argparse.Namespace]) -> bool:
    """Whether some server of the line listens at a port that is root's, such as the 502 of Modbus."""
    plcs = [plc_uri.parse(uri).port for each in told for uri in each.plc]
    pages = [address[1] for each in told for address in (each.dashboard, each.metrics) if address is not None]
    triggers = [urlsplit(each.trigger).port for each in told if each.trigger.startswith("http:")]
    return any(port is not None and 0 < port < _FIRST_FREE_PORT for port in (*plcs, *pages, *triggers))


def _program() -> str:
    """The lad-edge that runs now: the PATH of sudo knows no virtual environment. Raises UsageError."""
    beside = Path(sys.executable).with_name("lad-edge")
    found = str(beside) if beside.exists() else shutil.which("lad-edge")
    if found is None:
        raise UsageError(f"there is no lad-edge beside {sys.executable}; install it there: pip install lad-edge")
    return found


def _hidden(config: Path, told: Sequence[argparse.Namespace]) -> list[Path]:
    """Of what the service needs to start, what it cannot see."""
    needed = dict.fromkeys((Path(_program()), Path(sys.prefix), config, *(each.engine for each in told)))
    return [path for path in needed if any(path.resolve().is_relative_to(home) for home in _HOMES)]


def _unbounded(told: Sequence[argparse.Namespace]) -> list[str]:
    """Of --out, files that nothing makes smaller."""
    texts = dict.fromkeys(text for each in told for text in each.out)
    return [text for text in texts if not is_address(text) or (parse(text).scheme in FILES and "quota=" not in text)]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as exc:
        raise UsageError(f"--allow-net {text}: {exc}; write a network such as 10.0.7.0/24 or an address") from exc


def _write(path: Path, unit: str) -> None:
    try:
        path.write_text(unit)
    except PermissionError as exc:
        raise UsageError(f"{path} can be written by root alone: sudo lad-edge service install …") from exc
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror}; is systemd here? --units takes another folder") from exc


def _next_steps(path: Path, user: str) -> str:
    return "\n".join(
        (
            f"  sudo useradd --system --no-create-home {user}    # if there is no such user yet",
            "  sudo systemctl daemon-reload",
            f"  sudo systemctl enable --now {path.stem}",
            f"  journalctl -fu {path.stem}",
        )
    )
