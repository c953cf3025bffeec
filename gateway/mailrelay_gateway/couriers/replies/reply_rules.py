"""The rules for replies at MAIL and later, for any upstream, and for refusals at AUTH and before
whose text is more specific than the code. Ordered data: the first row that matches wins. Pure.

The order follows three principles. A refusal of the *relay* (login, relaying, client, HELO,
account, quota) holds the upstream, whatever its code and stage. A refusal of a recipient, a sender
or a message fails what it is about. Anything else is classified by its first digit (RFC 5321
section 4.2.1), and passed to the breaker.
"""

from __future__ import annotations

import re

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.rules import Rule, RuleBook
from mailrelay_gateway.couriers.replies.rulings import (
    ACCOUNT,
    CAPPED,
    DEFERRED,
    DOMAIN,
    DOMAIN_DEFERRED,
    FAILED,
    LOGIN,
    NEVER_HEALS,
    NOT_VERIFIED,
    OUT_OF_STEP,
    QUOTA,
    RECONNECT,
    REFUSED,
    SENDER_QUOTA,
    SLOW,
    SPLIT,
    THROTTLED,
    TLS,
    UNKNOWN,
    UNKNOWN_SENDER,
)

MAIL, RCPT, DATA, FINAL = (
    frozenset({stage}) for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_MESSAGE)
)
ENVELOPE = MAIL | RCPT | DATA
ANY = ENVELOPE | FINAL
MESSAGE = DATA | FINAL
SESSION = frozenset({Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH})

_4 = frozenset({4})
_5 = frozenset({5})
_45 = frozenset({4, 5})


def _t(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


#: Looks like a refusal of the relay, but is not.
_NOT_US = (
    Rule(ANY, _4, DEFERRED, text=_t(r"gr[ae]y-?list")),
    # RFC 3463 section 3.8: an expansion of a mailing list is not allowed.
    Rule(ANY, _5, FAILED, enhanced=("5.7.2",)),
    # The sender's domain: SPF, DKIM, DMARC, reverse DNS, bulk rules as RFC 7372, Gmail and Outlook
    # number them. Gmail's 4.7.28 is about a rate, of an address or of a domain.
    Rule(ANY, _5, DOMAIN, enhanced=tuple(f"5.7.{n}" for n in range(20, 30))),
    Rule(ANY, _5, DOMAIN, enhanced=("5.7.509", "5.7.515")),
    Rule(ANY, _4, DOMAIN_DEFERRED, enhanced=(*(f"4.7.{n}" for n in range(20, 28)), "4.7.29")),
    Rule(ANY, _5, DOMAIN, text=_t(r"\b(spf|dkim|dmarc)\b|ipv6 sending guidelines")),
    Rule(
        ANY,
        _5,
        DOMAIN,
        text=_t(
            r"\b(sender|sending|from|mailfrom) (address|domain)\b.{0,40}\b(listed|blocked)"
            r"|\brhsbl\b"
        ),
    ),
    Rule(
        ANY,
        _5,
        FAILED,
        text=_t(r"\b(dbl|surbl|uribl)\b|\b(urls?|links?)\b.{0,40}\blist"),
    ),
    # The login may not send as this address (ZeptoMail, Postfix, SES, SocketLabs, Exchange Online).
    Rule(ANY, _5, NOT_VERIFIED, text=_t(r"relaying disallowed as\b")),
    Rule(ANY, _5, NOT_VERIFIED, text=_t(r"not owned by user|identit(y|ies) failed the check")),
    Rule(ANY, _5, NOT_VERIFIED, text=_t(r"(address|identity|sender|domain) (is )?not verified")),
    Rule(ANY, _5, NOT_VERIFIED, text=_t(r"sender'?s address was not allowed")),
    Rule(ANY, _5, NOT_VERIFIED, text=_t(r"send ?as ?denied|permissions? to send as")),
    # A validation that fails each time (MailerSend).
    Rule(ANY, _4, NEVER_HEALS, text=_t(r"the given data was invalid")),
)

#: The login, and the TLS that it needs (RFC 4954 section 6). Some servers say 503 or 550 for 530.
_LOGIN = (
    Rule(ANY, frozenset({530}), TLS, text=_t(r"starttls|\btls\b|encrypt")),
    Rule(ANY, frozenset({523}), TLS),
    Rule(ANY, _5, TLS, enhanced=("5.7.10",)),
    Rule(ANY, _5, TLS, text=_t(r"(must|please) (first )?(issue|use|start) .{0,10}starttls")),
    Rule(ANY, frozenset({530, 534, 535, 538}), LOGIN),
    Rule(ANY, _5, LOGIN, enhanced=("5.7.8", "5.7.9", "5.7.30", "5.7.57", "5.7.139")),
    Rule(
        ANY,
        _5,
        LOGIN,
        text=_t(
            r"\bauth(entication)? (command )?(is )?(required|needed|first|unsuccessful|failed)"
            r"|\b(not|wasn'?t) (been )?(authenticated|logged in)"
            r"|\b(must|have to|need to|please) (be )?(first )?(authenticate|logged? ?in|login)"
            r"|authenticate (first|before)|requires? (smtp )?auth|don'?t authenticate"
            r"|\bsmtp[ -]auth|pop[ -]before[ -]smtp|basic authentication is"
            r"|unauthenticated senders?|authentication (failure|turned on)"
            r"|check (for new mail|pop) before sending"
        ),
    ),
)

#: The account: blocked by the provider.
_ACCOUNT = (
    Rule(ANY | SESSION, _5, ACCOUNT, enhanced=("5.7.13",)),
    Rule(ANY | SESSION, _45, ACCOUNT, text=_t(r"not allowed to send.*activate|not subscribed to")),
    Rule(ANY | SESSION, _5, ACCOUNT, text=_t(r"unusual sending activity|bad outbound sender")),
    Rule(
        ANY,
        _5,
        ACCOUNT,
        enhanced=("5.2.2",),
        text=_t(r"storedrv\.submission"),  # Exchange Online: Sent Items are full
    ),
    # At RCPT it may be the recipient's account.
    Rule(
        MAIL | MESSAGE | SESSION,
        _45,
        ACCOUNT,
        text=_t(
            r"\baccount (has been |is |was )?(temporarily )?"
            r"(suspended|disabled|blocked|deactivated|paused|under review)"
            r"|sending (has been |is |was )?(paused|disabled|suspended)"
            r"|\btenant\b.{0,60}\b(paused|suspended|disabled)"
        ),
    ),
    Rule(
        RCPT,
        _45,
        ACCOUNT,
        text=_t(r"\byour account\b.{0,60}(suspended|disabled|blocked|deactivated|paused|closed)"),
    ),
)

#: Quotas: some are 4xx, some 5xx, and all are temporary.
_QUOTA = (
    Rule(ANY, _45, SENDER_QUOTA, text=_t(r"daily smtp relay limit exceeded for user")),
    Rule(
        ANY | SESSION,
        _45,
        QUOTA,
        text=_t(r"\b(daily|monthly|weekly)\b.{0,40}\b(quota|limits?)\b.{0,20}(exceed|reached)"),
    ),
    Rule(ANY | SESSION, _45, QUOTA, text=_t(r"submissionquotaexceeded")),
    Rule(ANY | SESSION, _45, QUOTA, text=_t(r"not allowed to send.*(exceeded|try again)")),
    Rule(ANY | SESSION, _45, QUOTA, text=_t(r"exceeded your (messaging|sending) limits?")),
    Rule(ANY | SESSION, _5, QUOTA, text=_t(r"exceeded the max (emails|defers)")),
    Rule(
        ANY | SESSION,
        _45,
        QUOTA,
        text=_t(
            r"\b(credits?|balance)\b.{0,20}(exceeded|exhausted|expired|used up)"
            r"|(insufficient|not enough|no more|out of) (credits?|balance)"
        ),
    ),
)

#: Concurrency and rates: recipients, connections, messages per connection, throttling.
_TOO_MUCH = (
    Rule(
        ANY,
        _4,
        THROTTLED,
        text=_t(
            r"(recipients|messages|emails|mails)\b.{0,30}\b(per|this|an|a) (hour|minute|second)"
        ),
    ),
    # "The user you are trying to contact is receiving mail too quickly": the recipient's rate.
    Rule(ANY, _4, DEFERRED, text=_t(r"receiving (mail|email|messages) (too|at a rate)")),
    Rule(RCPT, _4, SPLIT, enhanced=("4.5.3",)),
    # RFC 821 said 552 where RFC 5321 says 452 (section 4.5.3.1.10); it also says so of a mailbox
    # that is full.
    Rule(RCPT, frozenset({552}), FAILED, text=_t(r"quota|storage|\bspace|\bfull\b|\bsize|exceed")),
    Rule(RCPT, frozenset({552}), SPLIT, enhanced=("", "5.5.3")),
    Rule(
        RCPT,
        _45,
        SPLIT,
        text=_t(
            r"too many (recipients|rcpts?)|multiple destination domains"
            r"|recipients? (limit|per (message|transaction|session))|size per transaction"
        ),
    ),
    Rule(
        ANY | SESSION,
        _4,
        CAPPED,
        text=_t(
            r"too many (\w+ ){0,2}(connections|sessions)|concurrent (connections?|sessions?) limit"
            r"|connections? (limit|count) exceeded|thread limit exceeded"
            r"|max\w* (\w+ ){0,2}connections"
        ),
    ),
    Rule(
        ANY,
        _4,
        RECONNECT,
        text=_t(
            r"too many (messages|mails?|emails|transactions)"
            r" (sent )?(in|on|per|for|over) ((this|one|a|a single|the) )?(connection|session)"
            r"|(messages|mails|transactions) per (connection|session)"
        ),
    ),
    # Postfix's smtpd_hard_error_limit: too many recipients were refused individually.
    Rule(RCPT | DATA, frozenset({421}), RECONNECT, text=_t(r"too many errors")),
    Rule(
        ANY | SESSION,
        _4,
        THROTTLED,
        text=_t(
            r"throttl|\brate\b.{0,20}(exceeded|limit)|rate[- ]?limit|exceeded .{0,30}\b(limit|rate)"
            r"|too (fast|quickly|frequent)|too much mail|too many (messages|mails|emails|requests)"
            r"|slow(ing)? down|peak smtp relay limit|temporarily deferred|unusual rate|server busy"
        ),
    ),
)

#: Relaying, the relay's address and name.
_REFUSED = (
    Rule(ENVELOPE, _5, REFUSED, enhanced=("5.7.54", "5.7.64")),
    Rule(
        ANY,
        _45,
        REFUSED,
        text=_t(
            r"\brelay(ing|ed)? (access |mail |to |is |was |has been |temporarily ){0,2}"
            r"(denied|not (permitted|allowed)|prohibited|disallowed|forbidden|refused|rejected)"
            r"|\b(unable|not (allowed|permitted|authori[sz]ed|configured)|cannot|refuse[sd]?"
            r"|will not|won'?t) (to )?relay|\b(do|does|did) ?(not|n't) (\w+ )?relay"
            r"|\bno relay(ing)?\b|open relay|rcpthosts|\bsmtp server of your isp"
        ),
    ),
    Rule(
        ANY,
        _45,
        REFUSED,
        text=_t(
            r"\bclient (host|address|network|ip)?.{0,60}\b(rejected|blocked|denied|not allowed)"
            r"|not allowed to connect|connections? (will )?not (be )?accepted|no access from"
            r"|server access forbidden|your access to .{0,60}\brejected|open proxy"
        ),
    ),
    # Reverse DNS, and a network from which no mail is expected.
    Rule(
        ENVELOPE,
        _45,
        REFUSED,
        text=_t(
            r"\b(reverse|ptr|rdns)\b|(cannot|could not|can't) (find|resolve) your\b"
            r"|\bip (name )?lookup|\bdynamic\b.{0,20}\bips?\b|relay host name|\bip must resolve"
        ),
    ),
    Rule(
        ANY,
        _45,
        REFUSED,
        text=_t(
            r"\byour (ip|host|server|network)\b.{0,60}"
            r"\b(block|black|deny|reject)?[- ]?(ed|list|listed)\b"
            r"|\byour (ip|host|server|network)\b.{0,60}\b(block|black|reject)"
            r"|\byour (ip|host|server|network)\b.{0,40}"
            r"\b(banned|isn'?t allowed|not (allowed|authori[sz]ed|permitted))"
            r"|\b(mail|spams?) from your ip|banned (sender|sending ip)"
        ),
    ),
    # `need fully-qualified hostname` is HELO's; a sender or recipient needs an *address*.
    Rule(ENVELOPE, _45, REFUSED, text=_t(r"\b(helo|ehlo)\b|need fully-qualified hostname")),
)

#: Unambiguous codes: of the recipient, whatever the text says, or of the host.
_BY_CODE = (
    Rule(RCPT, _5, FAILED, enhanced=("5.1.", "5.2.")),
    Rule(MAIL | FINAL, _5, FAILED, enhanced=("5.1.",)),
    Rule(RCPT, frozenset({551, 556}), FAILED),
    Rule(ANY, frozenset({521}), REFUSED),  # RFC 7504: the host takes no mail at all
)

#: Block lists. After DATA, an address or a link within the message may be what is listed.
_LISTED = (
    Rule(
        ENVELOPE,
        _45,
        REFUSED,
        text=_t(
            r"spamhaus|spamcop|sorbs|barracuda|dnsbl|\brbls?\b|\b[sx]bl\b|shxbl|hostkarma|spamrl"
            r"|proofpoint|\b(block|black|deny)[- ]?list|\b(bad|poor|low)\b.{0,20}\breputation"
            r"|\b(bad|sender|sending|server) ip\b|\bmta'?s\b"
        ),
    ),
    Rule(
        ENVELOPE,
        _45,
        REFUSED,
        text=_t(
            r"^ip[=:]|(\[?\d{1,3}(\.\d{1,3}){3}|\bips?\b)(?!\]? said).{0,40}"
            r"\b(rejected|refused|blocked|listed|banned|denied|blacklisted)\b"
        ),
    ),
)

#: The recipient or the sender.
_ADDRESS = (
    Rule(
        MAIL | RCPT,
        _5,
        FAILED,
        text=_t(
            r"\b(sender|mail from)\b.{0,20}\b(rejected|invalid|denied|refused|verif)"
            r"|invalid (mail from|sender)|need fully-qualified address"
        ),
    ),
    # Any word for a mailbox, except with the relay's or the sender's address.
    Rule(
        RCPT,
        _5,
        FAILED,
        text=_t(
            r"\b(users?|recipients?|addressee|mail ?box(es)?|customer|badrcptto|rcpt)\b"
            r"|bad_recipient|recipnotfound|recipientnotfound|local[- ]?part|null ?mx"
            r"|(?<!ip )(?<!sender )(?<!your )(?<!from )\baddress(es)?\b"
            r"|(?<!your )\baccounts?\b"
            r"|\bquota\b|\bis full\b|enough space|\bspace has been|not found|no one at|unrouteable"
            r"|\bhost unknown|\b(unknown|no such) (host|domain)|accept(ing)? (any )?mail\b"
        ),
    ),
)

#: The message.
_MESSAGE = (
    Rule(MAIL | MESSAGE, frozenset({552}), FAILED),
    Rule(ANY, _5, FAILED, enhanced=("5.3.4", "5.2.3", "5.6.")),
    Rule(
        MAIL | MESSAGE,
        _5,
        FAILED,
        text=_t(
            r"spam(?!haus|cop)|virus|malware|phish|\bcontent|attachment|\btoo (big|large|long)"
            r"|\bsize\b|unsolicited|\bheader|\bsubject\b|\bpolicy\b|infected|suspicious|duplicate|\burls?\b"
            r"|filter|\bbulk\b|line length|too many hops|hop count|mail loop|\bbanned\b|^from:"
            r"|blacklisted|missing date|message-id"
        ),
    ),
)

#: The protocol. A misunderstanding between the servers must not bounce mail.
_CONVERSATION = (
    Rule(MAIL, frozenset({504}), REFUSED),
    Rule(FINAL, frozenset({500, 502}), REFUSED),
    # RFC 3463 section 3.4: the mail system's own status.
    Rule(MAIL | MESSAGE, _5, REFUSED, enhanced=("5.3.0", "5.3.1", "5.3.2", "5.3.5")),
    Rule(ENVELOPE, frozenset({500, 502, 503, 555}), OUT_OF_STEP),
    Rule(FINAL, frozenset({503}), OUT_OF_STEP),
)

#: By class: every refusal at MAIL or later ends here at the latest.
_CLASSES = (
    Rule(ANY, frozenset({421, 432, 454}), SLOW),
    Rule(MAIL | DATA, _4, SLOW),
    Rule(FINAL, _4, SLOW, enhanced=("", "4.3.", "4.4.", "4.7.")),
    Rule(ANY, _4, DEFERRED),
    Rule(MAIL, _5, UNKNOWN_SENDER),
    Rule(RCPT | MESSAGE, _5, UNKNOWN),
)

RULES = RuleBook(
    (
        *_NOT_US,
        *_ACCOUNT,
        *_QUOTA,
        *_LOGIN,
        *_TOO_MUCH,
        *_REFUSED,
        *_BY_CODE,
        *_LISTED,
        *_ADDRESS,
        *_MESSAGE,
        *_CONVERSATION,
        *_CLASSES,
    )
)
