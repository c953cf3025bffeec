"""What all pools share. Only the value."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mailrelay_gateway.couriers.oauth2.fetcher import TokenSurroundings
from mailrelay_gateway.couriers.resolver import Resolver
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The courier's, handed on. `clock` gives Unix seconds, `rng` the jitter of probes."""

    work: Work
    metrics: Metrics
    resolver: Resolver
    deadlines: Deadlines
    probing: Probing
    rng: random.Random
    tokens: TokenSurroundings
    clock: Callable[[], float] = time.time
