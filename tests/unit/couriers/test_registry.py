"""Each kind of upstream that the contract has, has its courier."""

from __future__ import annotations

from typing import get_args

from mailrelay_gateway.contract.documents import Settings, UnknownKind
from mailrelay_gateway.couriers.registry import COURIERS


def test_every_kind_of_the_contract_has_a_courier_and_no_courier_is_idle() -> None:
    members = get_args(get_args(Settings)[0])
    kinds = {model.model_fields["kind"].default for model in members if model is not UnknownKind}
    assert set(COURIERS) == kinds
