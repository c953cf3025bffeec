"""aiosmtpd's own tests of its dialogs, run against our listeners: reply codes are what is compared.

verdicts.txt says of each what becomes of it, and why. One that differs must go on differing, until
its verdict is changed.
"""

from __future__ import annotations

from tests.integration.aiosmtpd_dialogs.theirs import classes

globals().update(classes())
