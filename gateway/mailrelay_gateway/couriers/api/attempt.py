"""One attempt over a provider's API, from credentials to what the answer means."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.api.answers import refuses_credentials
from mailrelay_gateway.couriers.api.client import ApiClient
from mailrelay_gateway.couriers.api.services import Unfit
from mailrelay_gateway.couriers.oauth2.answers import NoToken
from mailrelay_gateway.couriers.replies.verdict import Failure, Meaning, Verdict
from mailrelay_gateway.couriers.smtp.body_stream import UnreadableBody
from mailrelay_gateway.descriptors import is_shortage
from mailrelay_gateway.egress.channel import AnswerLost, Sending, UnreadableUpload
from mailrelay_gateway.egress.client import Unreachable
from mailrelay_gateway.egress.rules import NotAllowed
from mailrelay_gateway.message.effect import Elsewhere
from mailrelay_gateway.message.envelope import Attempt, Result
from mailrelay_gateway.reasons import Reason

log = structlog.get_logger()

#: Seconds for an answer, and octets a second for which a large message is given more time.
DEADLINE = 60.0
LEAST_RATE = 32 * 1024

#: Told of each upload before it begins.
Sends = Callable[[Sending], None]


async def deliver(attempt: Attempt, client: ApiClient, sends: Sends) -> Verdict:
    """What came of it. With credentials that are refused, it is tried once more with new ones: a
    refusal is definite. Raises Unattributable, and OSError without a file descriptor.
    """
    token = await client.token()
    verdict = await _deliver_with(token, attempt, client, sends)
    if isinstance(token, NoToken) or not client.fetches or not refuses_credentials(verdict):
        return verdict
    client.rejected(token)
    renewed = await client.token()
    if renewed == token or isinstance(renewed, NoToken):
        return verdict
    return await _deliver_with(renewed, attempt, client, sends)


async def _deliver_with(
    token: str | NoToken, attempt: Attempt, client: ApiClient, sends: Sends
) -> Verdict:
    if isinstance(token, NoToken):
        return _not_sent(Failure(Stage.TOKEN, token.reason, token.detail))
    addresses = [recipient.address for recipient in attempt.recipients]
    message = client.attributor.attributed(attempt.message)
    try:
        request = await client.request(message, addresses, token)
    except Unfit as error:
        meaning = Meaning(Result.DEFERRED, error.reason, effect=Elsewhere(), detail=str(error))
        return for_all(attempt, meaning)
    except UnreadableBody as error:
        return _unreadable(attempt, error)
    except OSError as error:
        if is_shortage(error):
            raise
        return _unreadable(attempt, error)
    sending = Sending(request.upload)
    sends(sending)
    try:
        answer = await client.channel.post(
            request.path,
            sending,
            headers=request.headers,
            deadline=DEADLINE + request.upload.octets / LEAST_RATE,
        )
    except NotAllowed as error:
        return _not_sent(Failure(Stage.CONNECT, Reason.UPSTREAM_URL_NOT_ALLOWED, str(error)))
    except AnswerLost as error:
        return for_all(attempt, Meaning(Result.UNCERTAIN, Reason.REPLY_LOST, detail=str(error)))
    except UnreadableUpload as error:
        return _unreadable(attempt, error)
    except Unreachable as error:
        if not sending.started:
            return _not_sent(Failure(Stage.CONNECT, Reason.UPSTREAM_UNREACHABLE, str(error)))
        meaning = Meaning(Result.DEFERRED, Reason.CONNECTION_LOST, detail=str(error))
        return for_all(attempt, meaning)
    verdict = client.read(answer, len(addresses))
    sending.refused = refuses_credentials(verdict)
    return verdict


def for_all(attempt: Attempt, meaning: Meaning) -> Verdict:
    """One meaning for every recipient."""
    return Verdict((meaning,) * len(attempt.recipients))


def broken_off(attempt: Attempt, sending: Sending | None) -> Verdict:
    """The gateway stops before the answer has come."""
    if sending is None or not sending.may_have_arrived:
        return Verdict(give_back=True)
    return for_all(attempt, Meaning(Result.UNCERTAIN, Reason.REPLY_LOST))


def failed_ourselves(attempt: Attempt, sending: Sending | None) -> Verdict:
    """A defect of ours ended the attempt."""
    if sending is not None and sending.may_have_arrived:
        return for_all(attempt, Meaning(Result.UNCERTAIN, Reason.REPLY_LOST))
    return for_all(attempt, Meaning(Result.DEFERRED, Reason.INTERNAL_ERROR))


def _not_sent(failure: Failure) -> Verdict:
    return Verdict(give_back=True, failure=failure)


def _unreadable(attempt: Attempt, error: Exception) -> Verdict:
    log.error("body_damaged", queue_id=attempt.message.queue_id, error=str(error))
    return for_all(attempt, Meaning(Result.DEFERRED, Reason.INTERNAL_ERROR))
