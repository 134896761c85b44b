"""The repository of the Open Inference Protocol, which is bmp's registry: which versions there are, and how they do."""

from typing import Any

from bmp.errors import BmpError, NotReadyError
from serving.service import Service, VersionState

_STATES = {
    "START": "LOADING",
    "LOADING": "LOADING",
    "AVAILABLE": "READY",
    "UNLOADING": "UNLOADING",
    "END": "UNAVAILABLE",
}


def list_versions(service: Service, only_ready: bool) -> list[dict[str, Any]]:
    """Returns every version that is served or should be, in JSON's types.

    Args:
        service: What serves.
        only_ready: Whether those that cannot answer are left out.
    """
    failures, rows = service.failures(), []
    for name in sorted({*service.names(), *failures}):
        try:
            rows += [_describe(name, version) for version in service.versions(name)]
        except BmpError:  # the registry does not even say which versions there are
            rows.append({"name": name, "state": "UNAVAILABLE", "reason": failures.get(name, NotReadyError.code)})
    return [row for row in rows if row["state"] == "READY" or not only_ready]


def _describe(name: str, version: VersionState) -> dict[str, Any]:
    return {
        "name": name,
        "version": str(version.number),
        "state": _STATES[version.state],
        "reason": version.error or "",
    }
