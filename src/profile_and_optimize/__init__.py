"""profile-and-optimize: what exactly should we serve, and how do we know?

    import profile_and_optimize as pao

`pao.bench`, `pao.ab` and `pao.optimize` take the fields of the commands of these names; `pao.load(RUN)` reads a finished run.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profile_and_optimize.api import BenchResult, Run, ab, bench, load, optimize
    from profile_and_optimize.core.errors import PaoError

__version__ = "0.1.0"
__all__ = ["BenchResult", "PaoError", "Run", "__version__", "ab", "bench", "load", "optimize"]
_API = frozenset(__all__) - {"__version__"}


def __getattr__(name: str) -> Any:
    """The names of `api`, imported on first use: a command line that needs none of them does not wait for numpy."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from profile_and_optimize import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """`optimize` is a function here and a folder of modules. Whoever imports one of those modules has the import system set the
    folder as an attribute of this package, where it would hide the function. `from profile_and_optimize.optimize import levers`
    works as ever, `import profile_and_optimize.optimize.levers as x` does not."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _API and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
