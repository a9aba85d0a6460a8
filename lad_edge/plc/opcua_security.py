"""Who may talk to the OPC UA server: a certificate of our own, user names, and certificates that are trusted (reliability.md §6.4)."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncua import ua
from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncua import Server

    from lad_edge.plc.uri import PlcAddress

APPLICATION_URI = "urn:lad-edge:station"
_VALID_DAYS = 3650  # a line is not stopped once a year for a certificate
_OPEN = [ua.SecurityPolicyType.NoSecurity]
_ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]


class Users:
    """asyncua's user manager. NAME → password; without any, everybody is let in (on this machine alone)."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self.passwords = passwords

    def get_user(
        self,
        iserver: object,  # noqa: ARG002 - asyncua's signature
        username: str | None = None,
        password: str | None = None,
        certificate: object = None,  # noqa: ARG002
    ) -> User | None:
        """None keeps the client out. Nobody is an administrator: nodes are made by the line alone."""
        known = self.passwords.get(username or "", "")
        admitted = not self.passwords or (
            bool(known) and hmac.compare_digest(known.encode(), (password or "").encode("utf-8", "surrogateescape"))
        )
        return User(role=UserRole.User, name=username) if admitted else None


def silence() -> None:
    """Without it, asyncua would print a traceback for every stranger that knocks."""
    for name in ("asyncua", "asyncuagds"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def check_access(address: PlcAddress) -> None:
    """Reads all that the options name and serves nothing. Raises UsageError."""
    read_users(address)
    asyncio.run(_validator(address.trust))


def read_users(address: PlcAddress) -> dict[str, str]:
    """NAME:PASSWORD lines of a file that nobody else can read. Raises UsageError, also for an open door off this machine."""
    if address.users is None:
        if not address.loopback:
            raise UsageError(
                f"{address} is open to others: it needs ?users=FILE with NAME:PASSWORD lines, or 127.0.0.1"
            )
        if address.trust is not None:
            raise UsageError(f"{address}: trust= is for clients with users: add users=FILE, or leave it out")
        return {}
    try:
        mode, lines = address.users.stat().st_mode, address.users.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{address}: users {address.users} cannot be read: {exc}") from exc
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"{address}: others can read {address.users}; chmod 600 {address.users}")
    users = dict(line.split(":", 1) for line in lines if ":" in line)
    if not users or not all(users.values()):
        raise UsageError(f"{address}: {address.users} holds no NAME:PASSWORD line, or one without a password")
    return users


async def secure(server: Server, address: PlcAddress, users: Mapping[str, str]) -> None:
    """Without users: no encryption, anonymous. With users: signed and encrypted only, with user name. Raises UsageError."""
    if not users:
        server.set_security_policy(_OPEN)
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        return
    certificate, key = own_certificate(keys_folder(address))
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    server.set_security_policy(_ENCRYPTED)
    server.set_identity_tokens([ua.UserNameIdentityToken])
    server.set_certificate_validator((await _validator(address.trust)).validate)


async def _validator(trust: Path | None) -> CertificateValidator:
    """trust: a folder of client certificates; None = any one that is valid now and made out to its application."""
    if trust is None:
        return CertificateValidator()
    if not trust.is_dir():
        raise UsageError(f"--plc opcua: trust={trust} is no folder of certificates (.der or .pem)")
    store = TrustStore([trust], [])
    try:
        await store.load()
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"--plc opcua: trust={trust} takes certificates of clients (.der or .pem), one at least: {exc}"
        ) from exc
    options = CertificateValidatorOptions.BASIC_VALIDATION | CertificateValidatorOptions.TRUSTED
    return CertificateValidator(options | CertificateValidatorOptions.PEER_CLIENT, store)


def keys_folder(address: PlcAddress) -> Path:
    """?keys=FOLDER, else the state folder that systemd gives, else the user's."""
    if address.keys is not None:
        return address.keys
    state = os.environ.get("STATE_DIRECTORY") or os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "lad-edge" / "opcua"


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """certificate.der and key.pem of this station, made at the first call. Raises UsageError."""
    certificate, key = folder / "certificate.der", folder / "key.pem"
    try:
        if not (certificate.exists() and key.exists()):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(certificate, key)
    except OSError as exc:
        raise UsageError(
            f"--plc opcua: the certificate cannot be kept in {folder}: {exc}; choose ?keys=FOLDER"
        ) from exc
    return certificate, key


def _make(certificate: Path, key: Path) -> None:
    secret = generate_private_key()
    names: list[Any] = [x509.UniformResourceIdentifier(APPLICATION_URI), x509.DNSName(socket.gethostname())]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    signed = generate_self_signed_app_certificate(secret, "lad-edge", {}, names, uses, days=_VALID_DAYS)
    key.touch(mode=0o600)
    key.write_bytes(dump_private_key_as_pem(secret))
    certificate.write_bytes(signed.public_bytes(Encoding.DER))
