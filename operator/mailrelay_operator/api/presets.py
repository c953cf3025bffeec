"""What each provider is known to want: hosts, TLS, sizes, connections, pace and what its replies
mean. Data only; `expanding` joins a preset with a spec, which wins field by field. Pure.

Only figures that the provider publishes, or that were observed and are marked so, are here; the
pages are named in `sources`. docs/reference/providers.md is generated from here. What any server
may say is no preset's business: the gateway's own rules know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Provider = Literal[
    "SES",
    "SendGrid",
    "Mailgun",
    "Postmark",
    "Mailjet",
    "SparkPost",
    "Office365",
    "GoogleWorkspace",
    "Gmail",
    "ZeptoMail",
    "Cloudflare",
    "AzureCommunicationServices",
    "SocketLabs",
    "MailerSend",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetPace:
    """A rate that the provider allows: `count` units in `per`, a duration as in the API."""

    unit: Literal["recipients", "messages"]
    count: int
    per: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetReply:
    """A reply that means something at this provider only, as a rule of the API; `reason` is the
    gateway's word for it.
    """

    name: str
    text: str
    outcome: Literal["Deferred", "Failed", "Held"]
    reason: str
    code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One provider. None and empty: it says nothing, and the usual default applies.

    `hosts` are empty where they are regional. `connections` are those of the whole account, and
    shared by the replicas. `max_size` is in octets, as sent. `login` says what username and
    password are. `control_headers` are fields by which a message could steer the provider; one that
    ends in `-` is a prefix. `takes_null_sender`: whether MAIL FROM:<> is taken.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    tls: Literal["StartTLS", "Implicit"] = "StartTLS"
    login: str = "username and password"
    max_size: int | None = None
    max_recipients: int | None = None
    connections: int | None = None
    messages_per_connection: int | None = None
    pace: tuple[PresetPace, ...] = ()
    takes_null_sender: bool = True
    control_headers: tuple[str, ...] = ()
    replies: tuple[PresetReply, ...] = ()
    sources: tuple[str, ...]


PRESETS: Mapping[str, Preset] = {
    "SES": Preset(
        login="SMTP credentials of the region, not an access key",
        max_size=40_000_000,  # after base64
        max_recipients=50,
        takes_null_sender=False,  # 501 Invalid MAIL FROM address provided
        control_headers=("X-SES-",),
        sources=(
            "https://docs.aws.amazon.com/ses/latest/dg/quotas.html",
            "https://docs.aws.amazon.com/ses/latest/dg/smtp-connect.html",
        ),
    ),
    "SendGrid": Preset(
        hosts=(("smtp.sendgrid.net", 587),),
        login="username apikey, password the API key",
        max_size=31_457_280,  # its SIZE, as observed
        messages_per_connection=5000,
        control_headers=("X-SMTPAPI",),
        replies=(
            PresetReply(
                name="sendgrid-sender-identity",
                text="verified sender identity",
                outcome="Failed",
                reason="SenderNotVerified",
            ),
        ),
        sources=(
            "https://www.twilio.com/docs/sendgrid/for-developers/sending-email"
            "/integrating-with-the-smtp-api",
        ),
    ),
    "Mailgun": Preset(
        hosts=(("smtp.mailgun.org", 587),),
        login="credential of the domain",
        max_size=25_000_000,
        control_headers=("X-Mailgun-",),
        sources=("https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages",),
    ),
    "Postmark": Preset(
        hosts=(("smtp.postmarkapp.com", 587),),
        login="the server token as both, or an SMTP token of a stream",
        max_size=10_000_000,  # after base64
        max_recipients=50,
        control_headers=("X-PM-",),
        sources=("https://postmarkapp.com/developer/user-guide/send-email-with-smtp",),
    ),
    "Mailjet": Preset(
        hosts=(("in-v3.mailjet.com", 587),),
        login="API key and secret key",
        control_headers=("X-MJ-", "X-Mailjet-"),
        sources=(
            "https://cloud.google.com/compute/docs/tutorials/sending-mail/using-mailjet",
            "https://dev.mailjet.com/docs/smtp_relay/custom_headers",
        ),
    ),
    "SparkPost": Preset(
        hosts=(("smtp.sparkpostmail.com", 587),),
        login="username SMTP_Injection, password an API key with Send via SMTP",
        messages_per_connection=100,
        control_headers=("X-MSYS-API",),
        sources=("https://developers.sparkpost.com/api/smtp/",),
    ),
    "Office365": Preset(
        hosts=(("smtp.office365.com", 587),),
        login="OAuth2; passwords only where the tenant still allows them",
        connections=2,  # of the three that a mailbox may have
        pace=(
            PresetPace(unit="messages", count=30, per="1m"),
            PresetPace(unit="recipients", count=10_000, per="24h"),
        ),
        sources=(
            "https://learn.microsoft.com/exchange/troubleshoot/send-emails"
            "/smtp-submission-improvements",
        ),
    ),
    "GoogleWorkspace": Preset(
        hosts=(("smtp-relay.gmail.com", 587),),
        login="OAuth2 or an app password, or none with an allowed IP address",
        max_recipients=100,
        pace=(
            PresetPace(unit="recipients", count=319_444, per="10m"),
            PresetPace(unit="recipients", count=4_600_000, per="24h"),
        ),
        sources=("https://support.google.com/a/answer/2956491",),
    ),
    "Gmail": Preset(
        hosts=(("smtp.gmail.com", 587),),
        login="OAuth2 or an app password",
        pace=(PresetPace(unit="messages", count=2000, per="24h"),),
        sources=("https://support.google.com/a/answer/166852",),
    ),
    "ZeptoMail": Preset(
        hosts=(("smtp.zeptomail.com", 587),),
        login="username emailapikey, password the Send Mail token",
        sources=("https://www.zoho.com/zeptomail/help/smtp-home.html",),
    ),
    "Cloudflare": Preset(
        hosts=(("smtp.mx.cloudflare.net", 465),),
        tls="Implicit",
        login="username api_token, password the API token",
        max_size=5 * 1024 * 1024,  # 25 MiB to verified addresses: set maxSize
        max_recipients=50,
        sources=("https://developers.cloudflare.com/email-service/api/send-emails/smtp/",),
    ),
    "AzureCommunicationServices": Preset(
        hosts=(("smtp.azurecomm.net", 587),),
        login="SMTP username and the Entra application's secret",
        pace=(
            PresetPace(unit="messages", count=30, per="1m"),
            PresetPace(unit="messages", count=100, per="1h"),
        ),
        sources=(
            "https://learn.microsoft.com/azure/communication-services/concepts/email/sdk-features",
        ),
    ),
    "SocketLabs": Preset(
        hosts=(("smtp.socketlabs.com", 587),),
        login="server ID and SMTP password",
        max_size=30_000_000,
        max_recipients=500,
        connections=10,
        messages_per_connection=50,
        sources=("https://help.socketlabs.com/docs/smtp-server-restrictions",),
    ),
    "MailerSend": Preset(
        hosts=(("smtp.mailersend.net", 587),),
        login="SMTP user of the domain",
        sources=("https://developers.mailersend.com/smtp-relay.html",),
    ),
}

#: Providers whose hosts differ from region to region.
REGIONAL = tuple(name for name, preset in PRESETS.items() if not preset.hosts)
#: Providers that take TLS from the first byte only.
IMPLICIT = tuple(name for name, preset in PRESETS.items() if preset.tls == "Implicit")
