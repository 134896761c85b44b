"""`bmp launch`: starts the ranks of a run, watches them, and starts them again from the last checkpoint.

options    what was asked for
agent      one launch on this host: as the leader (host 0, or the only one) or as a follower
leader     decides when all ranks start, stop and start again; crew: how many run where
follower   does what the leader says
site       what the leader sees of a host: gang (this one) or rendezvous.RemoteSite
gang       the ranks of this host; rank: one of them; keeper: kills them if the launcher cannot; watch: silence
messages, connection, rendezvous   how launchers speak to each other
ports, cores, roles, signals, progress   what they say
"""

from bmp.distribution.launch.agent import launch
from bmp.distribution.launch.options import Options

__all__ = ["Options", "launch"]
