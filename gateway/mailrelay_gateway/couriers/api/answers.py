"""Classifies the answers of providers' APIs, as `replies` does those of SMTP servers. Pure.

A known error code has its row. What is about a message's content, and every status without a row,
is put as the SMTP reply that the provider would give, and classified by its text: one set of rules
says what "not verified" or "quota exceeded" means, and `replies[]` of the resource apply, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.oauth2.answers import json_object
from mailrelay_gateway.couriers.replies.classify import classify_reply
from mailrelay_gateway.couriers.replies.reply_rules import RULES
from mailrelay_gateway.couriers.replies.rules import RuleBook, Ruling
from mailrelay_gateway.couriers.replies.rulings import (
    ACCOUNT,
    DEFERRED,
    FAILED,
    LOGIN,
    OUT_OF_STEP,
    QUOTA,
    REFUSED,
    SLOW,
    THROTTLED,
)
from mailrelay_gateway.couriers.replies.verdict import Failure, Meaning, Refusal, Verdict
from mailrelay_gateway.egress.client import Answer
from mailrelay_gateway.message.effect import Scope
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

#: Characters that are kept of a provider's words.
MAX_WORDS = 500
#: Maximum of Retry-After, in seconds.
LONGEST_WAIT = 3600.0

#: By error code of SES: its meaning, or the code of the SMTP reply whose text decides.
SES_CODES: Mapping[str, Ruling | int] = {
    "MessageRejected": 554,
    "BadRequestException": 554,
    "TooManyRequestsException": 454,
    "ThrottlingException": 454,
    "Throttling": 454,
    "LimitExceededException": 454,
    "AccountSuspendedException": ACCOUNT,
    "SendingPausedException": ACCOUNT,
    # The domain's DNS may be at fault for a while.
    "MailFromDomainNotVerifiedException": DEFERRED,
    "NotFoundException": REFUSED,  # the configuration set or the tenant
    "AccessDeniedException": LOGIN,
    "AccessDenied": LOGIN,
    "UnrecognizedClientException": LOGIN,
    "InvalidClientTokenId": LOGIN,
    "InvalidSignatureException": LOGIN,
    "SignatureDoesNotMatch": LOGIN,
    "MissingAuthenticationTokenException": LOGIN,
    "IncompleteSignatureException": LOGIN,
    "ExpiredTokenException": LOGIN,
    "ExpiredToken": LOGIN,
    "RequestExpired": LOGIN,
    "InternalServiceErrorException": SLOW,
    "InternalFailure": SLOW,
    "ServiceUnavailable": SLOW,
}

#: The same of Graph.
GRAPH_CODES: Mapping[str, Ruling | int] = {
    "InvalidAuthenticationToken": LOGIN,
    "AuthenticationError": LOGIN,
    "ErrorAccessDenied": LOGIN,
    "AccessDenied": LOGIN,
    "Authorization_RequestDenied": LOGIN,
    "ErrorSendAsDenied": 554,
    "ErrorInvalidUser": REFUSED,
    "ErrorNonExistentMailbox": REFUSED,
    "ResourceNotFound": REFUSED,
    "Request_ResourceNotFound": REFUSED,
    "MailboxNotEnabledForRESTAPI": REFUSED,
    "MailboxNotHostedInExchangeOnline": REFUSED,
    "ErrorInvalidRecipients": FAILED,
    "ErrorMimeContentInvalid": FAILED,
    "ErrorMimeContentInvalidBase64String": FAILED,
    "ErrorContentConversionFailed": FAILED,
    "ErrorMessageSizeExceeded": FAILED,
    "RequestEntityTooLarge": FAILED,
    "ErrorExceededMessageLimit": QUOTA,
    "ErrorMessageSubmissionBlocked": ACCOUNT,
    "ErrorAccountSuspend": ACCOUNT,
    "ErrorQuotaExceeded": ACCOUNT,  # the mailbox is full
    "ApplicationThrottled": THROTTLED,
    "TooManyRequests": THROTTLED,
    "ErrorServerBusy": THROTTLED,
    "ErrorMailboxStoreUnavailable": SLOW,
    "MailboxInfoStale": SLOW,
    "ServiceUnavailable": SLOW,
    "generalException": SLOW,
    "UnknownError": SLOW,
}

_STATUSES: Mapping[int, Ruling] = {
    401: LOGIN,
    403: LOGIN,
    404: REFUSED,
    408: SLOW,
    413: FAILED,
    425: SLOW,
    429: THROTTLED,
}
_SHIPPED = frozenset(id(row) for row in RULES.rows)
#: SES repeats the signed headers to whom it refuses a signature.
_SESSION_TOKEN = re.compile(r"(x-amz-security-token\W*)[^\s']+", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_.]{1,64}")


def read_ses(answer: Answer, recipient_count: int, rules: RuleBook, *, now: float) -> Verdict:
    """What SES's answer means for the message; `now` is Unix seconds."""
    document = json_object(answer.body)
    if answer.status == 200 and isinstance(document.get("MessageId"), str):
        return _delivered(f"MessageId {document['MessageId'][:120]}", recipient_count)
    code = answer.headers.get("x-amzn-errortype", "").partition(":")[0]
    if not code and isinstance(document.get("__type"), str):
        code = document["__type"].rpartition("#")[2]
    words = document.get("message", document.get("Message", ""))
    if isinstance(words, str):
        words = _SESSION_TOKEN.sub(r"\1[...]", words)
    return _refused(answer, code, words, SES_CODES, recipient_count, rules, now)


def read_graph(answer: Answer, recipient_count: int, rules: RuleBook, *, now: float) -> Verdict:
    """What Graph's answer means for the message; `now` is Unix seconds."""
    if answer.status == 202:
        number = answer.headers.get("request-id", "")
        return _delivered(f"request-id {number[:64]}" if number else "Accepted", recipient_count)
    error = json_object(answer.body).get("error")
    found = error if isinstance(error, dict) else {}
    code, words = found.get("code", ""), found.get("message", "")
    return _refused(answer, code, words, GRAPH_CODES, recipient_count, rules, now)


def refuses_credentials(verdict: Verdict) -> bool:
    """Whether the provider refuses the credentials, so that new ones may help."""
    return verdict.failure is not None and verdict.failure.reason is Reason.UPSTREAM_AUTH_FAILED


def _delivered(words: str, recipient_count: int) -> Verdict:
    reply = Reply(250, "2.0.0", "".join(c if " " < c <= "~" or c == " " else "?" for c in words))
    meaning = Meaning(Result.DELIVERED, Reason.DELIVERED, reply)
    return Verdict((meaning,) * recipient_count, passed=Stage.END_OF_MESSAGE)


def _refused(
    answer: Answer,
    code: object,
    words: object,
    codes: Mapping[str, Ruling | int],
    recipient_count: int,
    rules: RuleBook,
    now: float,
) -> Verdict:
    name = code if isinstance(code, str) and _WORD.fullmatch(code) else ""
    said = _printable(words) if isinstance(words, str) else ""
    known = codes.get(name)
    if known is None:
        known = _by_status(answer.status, bool(name))
    smtp_code = known if isinstance(known, int) else _smtp_code(known)
    reply = Reply(smtp_code, "", f"{name}: {said}" if name else said or "no reason given")
    detail = f"answered {answer.status} {name}".rstrip() + (f": {said}" if said else "")
    if answer.status == 504 and not _is_owners(reply, rules):
        # A server in front of the service got no answer of it, and the message may be there.
        meaning = Meaning(Result.UNCERTAIN, Reason.REPLY_LOST, detail=detail)
        return Verdict((meaning,) * recipient_count, effect=SLOW.effect)
    meaning = classify_reply(Stage.END_OF_MESSAGE, reply, rules, now=now)
    if isinstance(known, Ruling) and not _is_owners(reply, rules):
        meaning = Meaning(
            known.result,
            known.reason,
            reply,
            known.effect,
            known.retry_after,
            known.scope,
            sure=known.sure,
        )
    wait = _retry_after(answer.headers.get("retry-after", ""), now)
    if wait is not None and meaning.result is not Result.FAILED:
        meaning = replace(meaning, retry_after=wait)
    return _verdict(meaning, reply, detail, recipient_count)


def _verdict(meaning: Meaning, reply: Reply, detail: str, recipient_count: int) -> Verdict:
    failure = refusal = None
    if meaning.result is Result.HELD and meaning.scope is Scope.UPSTREAM:
        refusal = Refusal(Stage.END_OF_MESSAGE, reply, sure=True)
        failure = Failure(
            Stage.END_OF_MESSAGE,
            meaning.reason,
            detail,
            reply,
            meaning.effect,
            meaning.retry_after,
            meaning.scope,
        )
    elif not meaning.sure:
        refusal = Refusal(Stage.END_OF_MESSAGE, reply, sure=False)
    # The reply is how rules and breaker see it; people are shown what was answered.
    shown = replace(meaning, reply=None, detail=detail)
    return Verdict(
        (shown,) * recipient_count,
        failure=failure,
        effect=meaning.effect,
        retry_after=meaning.retry_after,
        refusal=refusal,
    )


def _by_status(status: int, named: bool) -> Ruling | int:
    """Without an error code of the API it is no answer of it: a proxy's, a portal's, a redirect."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return SLOW
    return 554 if named and status >= 400 else OUT_OF_STEP


def _smtp_code(ruling: Ruling) -> int:
    if ruling is LOGIN:
        return 535
    return 554 if ruling.result is Result.FAILED else 451


def _is_owners(reply: Reply, rules: RuleBook) -> bool:
    """Whether a rule of the resource decides."""
    found = rules.find(Stage.END_OF_MESSAGE, reply)
    return found is not None and id(found) not in _SHIPPED


def _retry_after(given: str, now: float) -> float | None:
    """Retry-After in seconds (RFC 9110 section 10.2.3)."""
    if given.isascii() and given.isdigit() and len(given) < 9:
        return min(float(given), LONGEST_WAIT)
    try:
        seconds = parsedate_to_datetime(given).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(seconds, LONGEST_WAIT) if seconds > 0 else None


def _printable(text: str) -> str:
    """One line of ASCII, without control characters."""
    line = " ".join(text[: 4 * MAX_WORDS].split())
    return "".join(one if " " <= one <= "~" else "?" for one in line)[:MAX_WORDS]
