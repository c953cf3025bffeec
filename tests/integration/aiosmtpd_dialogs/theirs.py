"""The classes of aiosmtpd's own tests that hold a dialog with a server.

Their conftest asks for two modules that we do not install for the sake of two names, and so these
names are put in their places while it is imported.
"""

from __future__ import annotations

import importlib
import sys
import types
from importlib.resources import files
from typing import Any

#: The modules whose tests hold an SMTP dialog.
DIALOGS = ("test_smtp", "test_smtps", "test_smtpsmuggling", "test_starttls")
#: The others, and why none of their tests is run against us.
OTHERS = {
    "test_handlers": "aiosmtpd's handlers, and its hooks for them",
    "test_lmtp": "LMTP, which the gateway does not speak",
    "test_main": "aiosmtpd's command line",
    "test_misc": "aiosmtpd's helpers for event loops",
    "test_proxyprotocol": "PROXY, which is not supported yet; its parser has tests/properties",
    "test_server": "aiosmtpd's Controller",
}


def _stand_ins() -> dict[str, types.ModuleType]:
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, name: str(files(package) / name)  # type: ignore[attr-defined]
    mocks = types.ModuleType("pytest_mock")
    mocks.MockFixture = object  # type: ignore[attr-defined]
    return {"pkg_resources": resources, "pytest_mock": mocks}


def _import(name: str) -> types.ModuleType:
    absent = {each: made for each, made in _stand_ins().items() if each not in sys.modules}
    sys.modules.update(absent)
    try:
        return importlib.import_module(f"aiosmtpd.tests.{name}")
    finally:
        for each in absent:
            del sys.modules[each]


def modules() -> set[str]:
    """All modules of tests that aiosmtpd brings."""
    found = (file.name for file in files("aiosmtpd.tests").iterdir())
    return {name.removesuffix(".py") for name in found if name.startswith("test_")}


def classes() -> dict[str, Any]:
    """The classes of the modules in DIALOGS, by their names."""
    return {
        name: value
        for module in map(_import, DIALOGS)
        for name, value in vars(module).items()
        if name.startswith("Test") and isinstance(value, type)
    }


#: Where their tests look for the server.
ADDRESS = _import("conftest").Global
#: What they look into after a login.
PeekerHandler = _import("test_smtp").PeekerHandler
