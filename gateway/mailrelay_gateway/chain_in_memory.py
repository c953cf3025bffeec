"""A certificate's chain and key, given to OpenSSL without a file on any disk."""

from __future__ import annotations

import os
import ssl
import tempfile


def load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """`load_cert_chain` reads files only: give it one that lives in memory, or else only for that
    moment.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            _write(descriptor, pem)
            path = f"/proc/self/fd/{descriptor}"
            if os.path.exists(path):
                context.load_cert_chain(path)
                return
        finally:
            os.close(descriptor)
    descriptor, path = tempfile.mkstemp()  # mode 0600
    try:
        _write(descriptor, pem)
        context.load_cert_chain(path)
    finally:
        os.close(descriptor)
        os.unlink(path)


def _write(descriptor: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]
