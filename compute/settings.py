"""What a world of ranks is told when it starts, in one environment variable: launchers carry those to every host."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from .batch import Traits
from .current import Home

VARIABLE = "PENSTOCK_WORLD"


@dataclass(frozen=True)
class WorldSettings:
    """`endpoint`: where the runner listens. `folder`: of this world, for slots, sockets and the last word of a rank."""

    endpoint: str
    folder: str
    ranks: int
    queue: str
    module: str
    traits: dict[str, Traits]
    search: list[str]
    endpoints: tuple[str, ...]  # of the daemon, for tasks that ask it something
    result_max: int  # bytes

    @property
    def home(self) -> Home:
        """Where its jobs come from."""
        return Home(tuple(self.endpoints), self.queue, self.result_max)

    @property
    def slots(self) -> Path:
        return Path(self.folder, "slots")

    @property
    def cancels(self) -> Path:
        return Path(self.folder, "cancels")

    @property
    def last_word(self) -> Path:
        return Path(self.folder, "last-word")

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls) -> WorldSettings:
        fields = json.loads(os.environ[VARIABLE])
        fields["traits"] = {name: Traits(*traits) for name, traits in fields["traits"].items()}
        return cls(**fields)
