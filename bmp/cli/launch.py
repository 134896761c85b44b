"""`bmp launch …`: one training in many processes, on one machine or several."""

from pathlib import Path, PurePosixPath
from typing import Any

import click

from bmp.errors import ConfigError, suggest


@click.command("launch", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--workers", default="1", show_default=True, metavar="N|MIN:MAX", help="Of all hosts together.")
@click.option("--ps", default=0, show_default=True, type=click.IntRange(0), help="Parameter servers, led by a chief.")
@click.option("--hosts", metavar="A:PORT,B:PORT", help="Give the same command on each.  [this machine]")
@click.option("--host-index", type=int, metavar="I", help="Which of them this is, from 0.  [by its address]")
@click.option("--max-restarts", default=3, show_default=True, type=click.IntRange(0), help="In the whole launch.")
@click.option(
    "--watchdog",
    "watchdog_s",
    default=300.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Restart if a rank that trains is silent for so long; 0: never.",
)
@click.option(
    "--grace",
    "grace_s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="From the request to stop to the kill.",
)
@click.option(
    "--start-timeout",
    "start_timeout_s",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="For a rank's first sign of life, and for all hosts to come.",
)
@click.option(
    "--peer-timeout",
    "peer_timeout_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(2),
    metavar="SECONDS",
    help="A host that is silent for so long is lost.",
)
@click.option(
    "--join-timeout",
    "join_timeout_s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="For a host to come back.",
)
@click.option("--run-dir", metavar="DIR", help="Of all ranks and restarts; shared by the hosts.  [runs/NAME-TIME]")
@click.option("--print", "target", type=click.Choice(["kubernetes", "slurm"]), help="Print what runs it there instead.")
@click.option("--image", default="bmp:latest", show_default=True, help="For --print kubernetes.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT [ARGUMENT]...")
@click.pass_context
def launch_command(context: click.Context, command: tuple[str, ...], target: str | None, **given: Any) -> None:
    """Start SCRIPT in many processes that train one model together.

    Each gets its place in TF_CONFIG, its own cores and a log in DIR/logs. When one dies, hangs or loses its host, all
    are stopped and started again on fresh ports; the script goes on from its last checkpoint in DIR. Everything
    after SCRIPT goes to the script.

    --max-restarts counts every restart of the launch, however far the run came between. With --workers MIN:MAX a
    worker that is the first to fail twice in a row without a new step between is left out, as is a host that does not
    come back. Exit codes 2, 3 and 75 of a rank are not restarted.
    """
    from bmp.distribution.launch import launch

    image = given.pop("image")
    _check_script(context, command[0])
    if target is not None:
        click.echo(_print_manifest(target, command, image, given), nl=False)
        return
    context.exit(launch(_make_options(command, given)))


def _print_manifest(target: str, command: tuple[str, ...], image: str, given: dict[str, Any]) -> str:
    from bmp.distribution.launch.options import choose_run_dir, parse_workers
    from bmp.distribution.manifests import Job, render_kubernetes, render_slurm

    if given["hosts"] is not None or given["host_index"] is not None:
        raise ConfigError("--hosts and --host-index have no place here: the cluster says where ranks run.")
    _, workers = parse_workers(given["workers"])
    directory, whole = choose_run_dir(command, given["run_dir"])
    limits = given["ps"], given["max_restarts"], given["grace_s"]
    job = Job(whole, PurePosixPath(directory), workers, *limits, image)
    return render_kubernetes(job) if target == "kubernetes" else render_slurm(job)


def _check_script(context: click.Context, script: str) -> None:
    if script.startswith("-"):
        known = [name for option in context.command.params for name in option.opts if name.startswith("--")]
        raise ConfigError(f"There is no option {script}.{suggest(script, known)} See bmp launch --help.")
    if not Path(script).is_file():
        raise ConfigError(f"There is no script {script}; expected for example bmp launch --workers 2 train.py digits.")


def _make_options(command: tuple[str, ...], given: dict[str, Any]) -> Any:
    from bmp.distribution.launch import Options
    from bmp.distribution.launch.options import choose_run_dir, find_host_index, parse_hosts, parse_workers

    workers, hosts = given.pop("workers"), given.pop("hosts")
    index, run_dir = given.pop("host_index"), given.pop("run_dir")
    least, most = parse_workers(workers)
    directory, whole = choose_run_dir(command, run_dir)
    if hosts is None and index is not None:
        raise ConfigError("--host-index says which of the --hosts this is; give --hosts as well.")
    if hosts is not None:
        if whole != command and run_dir is None:
            raise ConfigError("Several hosts share one run directory; name it with --run-dir, the same on each.")
        given["hosts"] = parse_hosts(hosts)
        given["host_index"] = find_host_index(given["hosts"], index)
    return Options(whole, directory, least, most, **given)
