"""penstock serve, up, status, check, backup."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import click

from ..broker import config as configuration
from ..broker.config import Config, Pool
from ..peers.logs import log_to_stderr
from . import output
from .exits import FAILED, OK, Refused
from .options import Options, Verb, confirm
from .processes import end_with_parent, parent_option

CONFIG_FILE = "daemon.toml"
DATA_FOLDER = "./penstock-data"
CHECK_COLUMNS = ("table", "entry", "holds", "queue", "first", "count", "why")

data_option = click.option(
    "--data",
    envvar="PENSTOCK_DATA",
    metavar="DIR",
    help=f"The data folder.  [default: the configuration's, or {DATA_FOLDER}]",
)
listen_option = click.option(
    "--listen",
    envvar="PENSTOCK_LISTEN",
    metavar="ENDPOINT",
    multiple=True,
    help="Where to listen; may be repeated.  [default: the configuration's, or tcp://127.0.0.1:7470]",
)
config_option = click.option(
    "--config",
    envvar="PENSTOCK_CONFIG",
    metavar="FILE",
    help=f"The configuration.  [default: {CONFIG_FILE} in the working directory, if there is one]",
)


@click.command(cls=Verb)
@config_option
@data_option
@listen_option
@click.option("--pools/--no-pools", default=True, help="Start the pools of [compute], or not.")
@parent_option
@click.pass_obj
def serve(
    options: Options, config: str | None, data: str | None, listen: tuple[str, ...], pools: bool, parent_pid: int | None
) -> int:
    """Run a daemon until SIGTERM or Ctrl-C. SIGHUP re-reads what can be re-read.

    The data folder and the endpoints of the command line win over those of the configuration. Log lines go to stderr.
    """
    end_with_parent(parent_pid)
    source, settings = configured(config, data, listen)
    if pools and settings.compute.pools:
        return _with_pools(source, settings, settings.compute.pools)
    return _run(source, settings)


@click.command(cls=Verb)
@config_option
@data_option
@listen_option
@click.option("--queue", default="forecast", show_default=True, help="The queue that the pool works on.")
@click.option("--tasks", default="penstock.compute.forecast", show_default=True, metavar="MODULE", help="Its tasks.")
@click.option("--ranks", default=2, show_default=True, type=click.IntRange(min=1), help="Its processes.")
@parent_option
@click.pass_obj
def up(
    options: Options,
    config: str | None,
    data: str | None,
    listen: tuple[str, ...],
    queue: str,
    tasks: str,
    ranks: int,
    parent_pid: int | None,
) -> int:
    """A daemon with a pool, for trying things; Ctrl-C ends both. What was queued stays in the data folder."""
    end_with_parent(parent_pid)
    source, settings = configured(config, data, listen)
    pool = Pool(queue=queue, tasks=(tasks,), ranks=ranks)

    def ready(endpoint: str) -> None:
        for line in _how_to_use(endpoint, queue, tasks):
            output.note(line)
        if options.json:
            output.say_json({"endpoint": endpoint, "queue": queue, "data": settings.node.data})

    return _with_pools(source, settings, (pool,), ready)


@click.command(cls=Verb)
@config_option
@data_option
@click.option("--set-aside", is_flag=True, help="LOSSY: give up what is damaged, so that the daemon can go on.")
@click.option("--yes", is_flag=True, help="With --set-aside: do not ask.")
@click.pass_obj
def check(options: Options, config: str | None, data: str | None, set_aside: bool, yes: bool) -> int:
    """Read everything in the data folder of a stopped daemon, and compare all checksums.

    Tells what is damaged: table, entry (of the log), holds (messages or results), queue, first (offset), count, why.
    In a cluster it is also noted, and the next start fetches it from the other nodes. Exit code 1 if there is any.

    A daemon alone has nobody to fetch it from. With --set-aside the damaged bytes are copied to a file in the data
    folder, and what they held is given up: jobs are cancelled, results forgotten, schedules removed; in a topic an
    empty message with the header penstock-lost takes the place of each. If an entry is damaged that was in no
    checkpoint yet, all that was logged behind it is given up, too. Tells what was given up.
    """
    from ..broker.check import check_folder  # lmdb: not for --help

    _, settings = configured(config, data, ())
    if set_aside:
        confirm(f"Give up what is damaged in {settings.node.data}?", yes)
        return _set_aside(options, settings)
    report = check_folder(Path(settings.node.data), bool(settings.cluster.peers))
    output.rows([item._asdict() for item in report.damaged], CHECK_COLUMNS, options.json)
    output.note(
        f"{report.entries} log entries and {report.rows} rows, {report.bytes} bytes, were read; "
        f"{'all are sound' if not report.damaged else f'{len(report.damaged)} findings'}"
    )
    if report.damaged:
        output.note(
            "the next start fetches damaged entries from the other nodes"
            if settings.cluster.peers
            else "restore a copy of the folder, or go on without what is damaged: penstock check --set-aside"
        )
    return FAILED if report.damaged else OK


def _set_aside(options: Options, settings: Config) -> int:
    from ..broker.set_aside import set_aside

    aside = set_aside(settings)
    if aside is None:
        output.note("all are sound: nothing was changed")
        return OK
    output.rows([item._asdict() for item in aside.gone], CHECK_COLUMNS, options.json)
    messages = sum(item.count or 0 for item in aside.gone if item.holds == "messages")
    results = sum(item.count or 0 for item in aside.gone if item.holds == "results")
    output.note(f"{messages} messages and {results} results were given up; what was damaged is in {aside.file}")
    if aside.cut is not None:
        output.note(
            f"the log ends before entry {aside.cut}: {aside.behind} sound entries behind it were given up, too, and "
            "are in that file; what they settled is delivered again"
        )
    return OK


@click.command(cls=Verb)
@click.argument("folder", type=click.Path(path_type=Path))
@config_option
@data_option
@click.pass_obj
def backup(options: Options, folder: Path, config: str | None, data: str | None) -> int:
    """Copy the data of a node of this machine to FOLDER, which is made, while its daemon runs or not.

    The copy is that of one moment, and all its checksums are compared: exit code 1 if there is damage, which is then
    named. To go back to it, stop the daemon and give the copy as its data folder. A node of a
    cluster that the others know is refused with a copy: see "Backups" in docs/operations.md.
    """
    from ..broker.backup import back_up  # lmdb: not for --help

    _, settings = configured(config, data, ())
    made = back_up(Path(settings.node.data), folder)
    told = {"folder": str(folder), "bytes": made.bytes, "entries": made.entries, "rows": made.rows}
    output.one({**told, "damaged": len(made.damaged)}, options.json)
    for item in made.damaged:
        output.note(f"damaged: {item.table} {item.why}")
    return FAILED if made.damaged else OK


@click.command(cls=Verb)
@click.pass_obj
def status(options: Options) -> None:
    """What the daemon says of itself: role, data, durability, what it keeps and what it has done.

    Of several --endpoint the first daemon that answers, primary or not; `primary` tells where that is, if it is known.
    """
    with options.connect(read_only=True) as client:
        output.one(client.status(), options.json)


def configured(config: str | None, data: str | None, listen: tuple[str, ...]) -> tuple[str | None, Config]:
    """Where the configuration comes from (None: defaults) and what it says, command line included."""
    source = config or (CONFIG_FILE if Path(CONFIG_FILE).is_file() else None)
    settings = Config() if source is None else configuration.load(source)
    return source, configuration.override(settings, data, listen)


def _run(source: str | None, settings: Config) -> int:
    import lmdb

    from ..broker.daemon import serve as run  # zmq and lmdb: not for --help
    from ..broker.store import CorruptRow
    from ..peers.log import CorruptEntry

    log_to_stderr(settings.node.log_level)
    try:
        run(settings, source)
    # After a failed commit nobody knows what is on the disk: only a start, which reads it anew, may go on.
    except lmdb.Error as error:  # which may say no more than "Input/output error" where a disk is full
        free_bytes = shutil.disk_usage(settings.node.data).free
        raise Refused(
            f"the daemon stopped: {error}; the disk of {settings.node.data} has {free_bytes} bytes free",
            "make room if that is little, and start it again; `penstock check` tells whether anything is damaged",
        ) from error
    except (CorruptEntry, CorruptRow) as error:
        raise Refused(
            f"the daemon stopped: {error}", "start it again; `penstock check` tells what is damaged, and what to do"
        ) from error
    except OSError as error:
        raise Refused(
            f"the daemon stopped: {error.filename or settings.node.data}: {error.strerror}",
            "see if its disk is full, and whether it may be written to; then start it again",
        ) from error
    return 0


def _with_pools(
    source: str | None, settings: Config, pools: tuple[Pool, ...], ready: Callable[[str], None] | None = None
) -> int:
    from .supervisor import supervise

    arguments = ["serve", "--no-pools", "--data", settings.node.data]
    arguments += ["--config", source] if source else []
    arguments += [part for endpoint in settings.node.listen for part in ("--listen", endpoint)]
    others = [peer.client for peer in settings.cluster.peers if peer.id != settings.node.id]
    log_to_stderr(settings.node.log_level)
    return supervise(arguments, Path(settings.node.data), pools, others, ready)


def _how_to_use(endpoint: str, queue: str, tasks: str) -> list[str]:
    where = "" if endpoint == "tcp://127.0.0.1:7470" else f" --endpoint {endpoint}"
    example = "'{\"assets\": [0, 1, 2]}'" if tasks == "penstock.compute.forecast" else "'{...}'"
    return [
        f"listening on {endpoint}; a pool works on the queue {queue!r}. Try, in another terminal:",
        f"    penstock job submit {queue} {example} --wait{where}",
        f"    penstock queue list{where}",
        f"    penstock push notes 'hello'{where}    (after: penstock queue create notes{where})",
        "Ctrl-C ends both.",
    ]
