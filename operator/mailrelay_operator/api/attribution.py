"""How an upstream is told whose mail it gets: SES tenants and configuration sets, message streams.
Pure.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import HeaderName
from mailrelay_operator.api.shape import Struct, matching, rule

#: Not a field of the message itself, which belongs to its author.
PrivateHeader = Annotated[
    HeaderName,
    matching(r"[Xx]-[A-Za-z0-9-]+", "The header of an attribution begins with X-."),
]

ValueTemplate = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(
        r"([A-Za-z0-9_-]|[{]namespace[}]|[{]sender[}])+",
        "A template consists of letters, digits, hyphens, underscores, {namespace} and {sender}.",
    ),
]


class Attribution(Struct):
    """A header field that every message to the upstream is given; the client's own are removed."""

    header: PrivateHeader = Field(
        description="Name of the field, such as X-SES-TENANT or X-PM-Message-Stream; the list is"
        " merged by it in server-side apply."
    )
    from_: Literal["Namespace", "Sender", "Template"] = Field(
        description="Its value: the MailSender's namespace, its name, or the template. A value that"
        " is not 1 to 64 letters, digits, hyphens and underscores is never sent: the namespace's"
        " mail is held at this upstream (AttributionInvalid)."
    )
    template: ValueTemplate | None = Field(
        None,
        description="The value, with {namespace} and {sender} for those of the MailSender. Mail"
        " without a MailSender gets only fields without them.",
    )

    @rule(
        "(self.from == 'Template') == has(self.template)",
        "template is required with from: Template, and allowed only with it.",
        field="template",
    )
    def has_a_template_where_it_needs_one(self) -> bool:
        """Make sure there is exactly one value."""
        return (self.from_ == "Template") == (self.template is not None)

    @property
    def effective_template(self) -> str:
        """The value as a template."""
        return self.template or {"Namespace": "{namespace}"}.get(self.from_, "{sender}")
