"""Does the configuration fit the data? With another one a daemon would wait for ever, or send clients astray."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..peers.messages import Address
from .config import Config
from .folder import StartError, join_anew


def check_members(config: Config, members: Collection[int]) -> None:
    """Without other nodes in the configuration it would wait for their votes for ever. Raises StartError."""
    me = config.node.id
    if not config.cluster.peers and tuple(members) != (me,):
        nodes = ", ".join(map(str, members))
        raise StartError(
            f"the data in {config.node.data} is that of a cluster of the nodes {nodes}, and the configuration is "
            f"that of node {me} alone",
            "start it with the daemon.toml that lists these nodes as [[cluster.peer]], and has the right node.id; "
            "to go on without the others for good: penstock cluster force-new",
        )


def check_address(config: Config, known: Mapping[int, Address]) -> None:
    """Clients and nodes are sent to where the cluster knows us, whatever the configuration says. Raises StartError."""
    me = config.node.id
    mine = next(peer.address for peer in config.cluster.peers if peer.id == me)
    theirs = known.get(me, mine)
    if theirs[:3] != mine[:3]:
        raise StartError(
            f"the cluster knows node {me} at {', '.join(theirs[:3])}, and its [[cluster.peer]] says "
            f"{', '.join(mine[:3])}",
            "a node keeps its client, listen and publish as long as it has its id: give those; to move it, have it "
            f"join anew: {join_anew(me)}",
        )
