"""Which server, and as whom, from the environment."""

from __future__ import annotations

import os

from outdial.errors import SettingError


def place() -> tuple[str, str, str, int]:
    """URL, access key, secret and VDN. Raises SettingError that names what is missing or wrong."""
    names = ("OUTDIAL_URL", "OUTDIAL_AK", "OUTDIAL_SK", "OUTDIAL_VDN")
    url, ak, sk, vdn = (os.environ.get(name, "") for name in names)
    if absent := [name for name, value in zip(names, (url, ak, sk, vdn), strict=True) if not value]:
        raise SettingError(f"{', '.join(absent)}: not set; `outdial dev` prints what to set")
    if not (vdn.isascii() and vdn.isdigit()):
        raise SettingError("OUTDIAL_VDN: must be 1 to 9999")
    return url, ak, sk, int(vdn)
