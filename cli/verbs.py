"""The verbs of `penstock`, each imported when somebody asks for it: a command needs one of them, and starts sooner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

import click


class Verbs(Mapping[str, click.Command]):
    """Verbs by name. `modules`: in which module of this package each of them lies, under its name."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = dict(modules)
        self._known: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._known:
            found = getattr(import_module(f".{self._modules[name]}", __package__), name)
            assert isinstance(found, click.Command), name
            self._known[name] = found
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)
