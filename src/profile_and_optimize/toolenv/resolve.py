"""A lock made on the spot, for a platform that has none in the package: pip resolves, its report becomes the pins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ValidationError

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.toolenv.child import Child, must
from profile_and_optimize.toolenv.fetch import check_no_cuda
from profile_and_optimize.toolenv.lock import Lock, Pin, same_name
from profile_and_optimize.toolenv.specs import Spec


class _Metadata(BaseModel):
    name: str
    version: str


class _Archive(BaseModel):
    hashes: dict[str, str]


class _Origin(BaseModel):
    url: str
    archive_info: _Archive


class _Item(BaseModel):
    metadata: _Metadata
    download_info: _Origin


class _Report(BaseModel):
    install: tuple[_Item, ...]


def resolve(python: Path, spec: Spec, *, torch: Pin | None, wheels: Path, env: Mapping[str, str], child: Child) -> Lock:
    """Pins of today for `spec`, without what it drops. Its torch wheel is in `wheels` already and fixes the build.

    Raises BrokeMidway when pip finds no solution, WrongUse when the solution holds CUDA packages.
    """
    report = wheels / "report.json"
    flags = ["--dry-run", "--ignore-installed", "--only-binary=:all:", "--quiet", "--report", str(report)]
    asked = [*([spec.torch] if spec.torch else []), spec.requirement, *spec.also]
    argv = [str(python), "-m", "pip", "install", *flags, "--find-links", str(wheels), *asked]
    must(child, argv, env=env, doing=f"resolution of {spec.requirement}", on_line=lambda line: None)
    left_out = {*spec.drop, "torch"}
    pins = tuple(pin for pin in pins_of(report.read_text()) if pin.name not in left_out)
    check_no_cuda(pins)
    return Lock(pins, torch)


def pins_of(report: str) -> tuple[Pin, ...]:
    """The pins of `pip install --report` (format 1), by name. Raises BrokeMidway for one without a hash."""
    try:
        items = _Report.model_validate_json(report).install
        return tuple(sorted((_pin(item) for item in items), key=lambda pin: pin.name))
    except (ValidationError, KeyError) as error:
        raise BrokeMidway(f"pip's report names a package without file or sha256: {error}") from error


def _pin(item: _Item) -> Pin:
    file = unquote(urlsplit(item.download_info.url).path).rsplit("/", 1)[-1]
    sha256 = item.download_info.archive_info.hashes["sha256"]
    return Pin(same_name(item.metadata.name), item.metadata.version, sha256, file, None)
