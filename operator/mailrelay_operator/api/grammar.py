"""The grammar of the API's scalars: names, hosts, domains, addresses, networks, numbers. Pure.

Only annotated types live here. Each string is bounded, because CEL's cost is computed from the
bounds, and each rule is a sentence. Grammars are written for RE2 and `re` alike.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import Field, Strict

from mailrelay_operator.api.shape import TextRule, matching

# RFC 1035 section 2.3.1 with RFC 1123's leading digit. The last label of a domain starts with a
# letter, so that an IP address does not match. Short, because CEL's cost is the pattern's length
# times the string's.
_LABEL = r"[A-Za-z0-9]+(-+[A-Za-z0-9]+)*"
_LAST_LABEL = r"[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]"
_HOST = rf"{_LABEL}([.]{_LABEL})*"
_DOMAIN = rf"({_LABEL}[.])+{_LAST_LABEL}"
# The characters of an RFC 5321 Dot-string without `*`, which is our wildcard. RE2 forbids large
# nested bounds, so the length is a rule of its own.
_LOCAL = r"[\w!#$%&'+/=?^`{|}~.-]+"

#: Hosts to which a password may be sent in cleartext, since it does not leave the machine; the CEL
#: rule of Smarthost names the same.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

Flag = Annotated[bool, Strict()]

Port = Annotated[int, Strict(), Field(ge=1, le=65535)]

#: A count in a limit or a pace: up to 10^9.
Count = Annotated[int, Strict(), Field(ge=1, le=1_000_000_000)]

Label = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(
        r"[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "A name consists of lower-case letters, digits and hyphens, and starts and ends with a"
        " letter or digit.",
    ),
]

#: Port names of a Pod are at most 15 characters (RFC 6335 section 5.1) and hold a letter.
PortName = Annotated[
    str,
    Field(min_length=1, max_length=15),
    matching(
        r"[a-z]([a-z0-9-]*[a-z0-9])?",
        "A listener's name consists of lower-case letters, digits and hyphens, and starts with a"
        " letter.",
    ),
    TextRule(
        cel="!(self in ['admin', 'peer'])",
        message="The names admin and peer are reserved for the gateway's own ports; choose"
        " another.",
        holds=lambda text: text not in {"admin", "peer"},
    ),
]

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        r"[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*",
        "The name of an object consists of lower-case letters, digits, hyphens and dots.",
    ),
]

NamespaceName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(
        r"[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "The name of a namespace consists of lower-case letters, digits and hyphens.",
    ),
]

SecretKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        r"[A-Za-z0-9._-]+",
        "A key of a Secret consists of letters, digits, dots, hyphens and underscores.",
    ),
]

Domain = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        _DOMAIN,
        "Write a domain as in example.com: at least two labels, no trailing dot, xn-- for"
        " internationalized names.",
    ),
]

DomainPattern = Annotated[
    str,
    Field(min_length=1, max_length=255),
    matching(
        rf"([*][.])?{_DOMAIN}",
        "Write a domain as in example.com, or *.example.com for all its subdomains.",
    ),
]


def _is_host(text: str) -> bool:
    return _is_ip(text) or _HOST_NAME.holds(text)


def _is_ip(text: str) -> bool:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return False
    # As Kubernetes' isIP: no zone, no IPv4 in IPv6.
    return "%" not in text and not (
        isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None
    )


_HOST_NAME = matching(_HOST, "")

Host = Annotated[
    str,
    Field(min_length=1, max_length=253),
    TextRule(
        cel=f'isIP(self) || self.matches(r"^({_HOST})$")',
        message="A host must be a DNS name or an IP address, without port or brackets.",
        holds=_is_host,
    ),
]

IpAddress = Annotated[
    str,
    Field(min_length=1, max_length=45),
    TextRule(cel="isIP(self)", message="Must be an IP address.", holds=_is_ip),
]


def _is_network(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or not _is_ip(address):
        return False
    try:
        ipaddress.ip_network(text, strict=True)
    except ValueError:
        return False
    return str(int(length)) == length


Cidr = Annotated[
    str,
    Field(min_length=1, max_length=49),
    TextRule(
        cel="isCIDR(self) && cidr(self) == cidr(self).masked()",
        message="Write a network as in 10.244.0.0/16 or fd00:1::/64, with no bits set after its"
        " prefix.",
        holds=_is_network,
    ),
]

#: RFC 5321 section 4.5.3.1.1; the addresses of this grammar contain only one `@`.
_SHORT_LOCAL = TextRule(
    cel="self.indexOf('@') <= 64",
    message="The part of an address before the @ has at most 64 characters.",
    holds=lambda text: text.find("@") <= 64,
)

#: One mailbox, `local@domain`: RFC 5321 section 4.1.2 without quoted strings and address literals.
Address = Annotated[
    str,
    Field(min_length=1, max_length=254),
    matching(rf"{_LOCAL}@{_DOMAIN}", "Write an address as in billing@example.com."),
    _SHORT_LOCAL,
]

MailboxPattern = Annotated[
    str,
    Field(min_length=1, max_length=254),
    matching(
        rf"([*]|{_LOCAL})@{_DOMAIN}",
        "Write an address as in billing@example.com, or *@example.com for the whole domain.",
    ),
    _SHORT_LOCAL,
]

AddressPattern = Annotated[
    str,
    Field(min_length=1, max_length=254),
    matching(
        rf"[*]|([*]|{_LOCAL})@{_DOMAIN}",
        "Write an address as in billing@example.com, *@example.com for the whole"
        " domain, or * for any.",
    ),
    _SHORT_LOCAL,
]

# Keys and values of labels as the API server accepts them (apimachinery's validation).
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_SUBDOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_QUALIFIED = re.compile(rf"({_SUBDOMAIN}/)?{_NAME}", re.ASCII)


def is_label_key(text: str) -> bool:
    """Whether this may be the key of a label: `team`, or `example.com/team`."""
    prefix, slash, name = text.rpartition("/")
    return (
        _QUALIFIED.fullmatch(text) is not None
        and len(name) <= 63
        and len(prefix) <= 253
        and bool(slash) == bool(prefix)
    )


def is_annotation_key(text: str) -> bool:
    """Whether this may be the key of an annotation: like a label's, in upper or lower case."""
    return is_label_key(text.lower())


LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=317),
    matching(rf"({_SUBDOMAIN}/)?{_NAME}", "Write a label key as in team or example.com/team."),
    TextRule(
        cel="size(self) - self.lastIndexOf('/') <= 64",
        message="A label key has at most 63 characters after its prefix.",
        holds=lambda text: len(text) - text.rfind("/") <= 64,
    ),
]

LabelValue = Annotated[
    str,
    Field(max_length=63),
    matching(
        rf"({_NAME})?",
        "A label value consists of letters, digits, dots, hyphens and underscores, and starts and"
        " ends with a letter or digit.",
    ),
]

#: An image reference as container runtimes accept it; the chart decides which images may run.
Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._/:-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})",
        "Write an image as in registry.example.com/mailrelay-gateway:1.2.3, with its tag or"
        " digest.",
    ),
]

#: RFC 5322 section 3.6.8: printable ASCII without the colon.
HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=76),
    matching(
        r"[A-Za-z0-9-]+", "A header name consists of letters, digits and hyphens, without a colon."
    ),
]

#: One line: a header's value must not inject another header.
HeaderValue = Annotated[
    str,
    Field(min_length=1, max_length=500),
    matching(r"[ -~]+", "A header value must be one line of printable ASCII."),
]

HttpsUrl = Annotated[
    str,
    Field(min_length=1, max_length=2048),
    matching(r"https://[!-~]+", "The URL must start with https:// and hold no spaces."),
]
