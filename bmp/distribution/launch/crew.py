"""How many ranks each host runs, from attempt to attempt."""

from collections.abc import Iterable

from bmp.distribution.launch.options import Options
from bmp.distribution.launch.roles import Share, spread
from bmp.distribution.launch.site import Trouble


class Crew:
    """Divides the ranks among the hosts, and goes on with fewer workers if it may and must.

    The rule: a worker that was the first to fail in two attempts in a row, without one new step of the run between,
    cannot be had again, and its host runs one worker fewer from then on. A host that does not come back takes its
    workers with it. There are never fewer than the least number, and lost workers are not replaced by others.

    Args:
        options: The numbers asked for.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._workers = spread(options.max_workers, len(options.hosts))
        self._failed: tuple[int, str] | None = None

    def share(self, hosts: Iterable[int]) -> dict[int, Share]:
        """Returns what each of these hosts runs; the chief, if there is one, is on the first."""
        present = [host for host in sorted(hosts) if self._workers[host] or host == 0]
        ps = spread(self._options.ps, len(present))
        chief = int(self._options.ps > 0)
        return {host: Share(chief * (host == 0), self._workers[host], ps[at]) for at, host in enumerate(present)}

    def count_workers(self, hosts: Iterable[int]) -> int:
        """Returns how many workers these hosts run together."""
        return sum(self._workers[host] for host in hosts)

    def note_failure(self, host: int, trouble: Trouble, made_progress: bool, hosts: Iterable[int]) -> str | None:
        """Remembers who failed, and drops a worker if the rule says so.

        Returns:
            What was dropped, in words; None if nothing was.
        """
        failed = (host, trouble.rank) if trouble.rank is not None else None
        again = failed is not None and failed == self._failed and not made_progress
        self._failed = failed
        if not again or trouble.rank is None or not trouble.rank.startswith("worker"):
            return None
        workers = self.count_workers(hosts)
        least_here = int(host == 0 and not self._options.ps)  # the chief is worker 0, on the first host
        if workers <= self._options.min_workers or self._workers[host] <= least_here:
            return None
        self._workers[host] -= 1
        self._failed = None
        return f"{trouble.rank} failed twice without a new step between: going on with {say_workers(workers - 1)}"


def say_workers(count: int) -> str:
    """Returns how many workers, in words."""
    return f"{count} worker{'s' * (count != 1)}"
