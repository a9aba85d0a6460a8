"""Options of an address go in, a TLS context that checks the other side comes out."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from lad_edge.outputs.address import Address


def tls_context(address: Address) -> ssl.SSLContext:
    """TLS 1.2 or newer with a checked host, by `ca` or the machine's authorities; `cert` and `key` of ours. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=address.options.get("ca"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if "cert" in address.options:
            context.load_cert_chain(address.options["cert"], address.options.get("key"))
    except OSError as exc:  # ssl.SSLError is one
        raise UsageError(f"{address.name}: certificate or key cannot be used: {exc}; check ca, cert and key") from exc
    return context
