"""Puts off what a library imports and we never touch: it is loaded when somebody asks for one of its names."""

from __future__ import annotations

import importlib.util
import sys


def put_off(*names: str) -> None:
    """From now on, importing one of these modules loads nothing yet. One that is loaded or missing stays as it is.

    Its package is imported at once, so that ``from package import module`` finds it there and does not look further.
    """
    for name in names:
        if name in sys.modules:
            continue
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            continue
        if spec is None or spec.loader is None:
            continue
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        package, _, last = name.rpartition(".")
        if package:
            setattr(sys.modules[package], last, module)
