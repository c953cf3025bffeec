"""The one reader of certificates and keys."""

from __future__ import annotations

import datetime as dt
import ssl
from functools import cache

import pytest
from structlog.testing import capture_logs

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_gateway.contract.pem import (
    PemProblem,
    read_bundle,
    read_pair,
    serving_problem,
    trust_problem,
)
from mailrelay_gateway.couriers.smtp.tls import client_context
from mailrelay_gateway.intake.tls import CertificateError, CertificateStore
from tests.models import made
from tests.peers.certificates import P256, key_pem_of, make
from tests.peers.odd_certificates import (
    KEYS,
    MALFORMED_SAN,
    RSA_2048,
    SIGNED_WITH_SHA1,
    as_pkcs12_tools_write,
    client_only,
    der_as_text,
    indented,
    joined,
)

NOW = dt.datetime.now(dt.UTC)
CHAIN, KEY = make()
OTHER, OTHER_KEY = make(RSA_2048, names=("other.example",))

READABLE = {
    "as it is": CHAIN,
    "a comment in Hungarian before it": f"# Főtanúsítvány\n{CHAIN}",
    "a byte order mark": f"\ufeff{CHAIN}",
    "what was no UTF-8": f"\ufffd\ufffd Wurzel\n{CHAIN}",
    "friendlyName lines": as_pkcs12_tools_write(CHAIN),
    "indented": indented(CHAIN),
    "CRLF": CHAIN.replace("\n", "\r\n"),
    "CR": CHAIN.replace("\n", "\r"),
    "one long line": "-----BEGIN CERTIFICATE-----"
    + "".join(CHAIN.splitlines()[1:-1])
    + "-----END CERTIFICATE-----",
    "text after it": f"{CHAIN}that was it",
    "a key beside it": KEY + CHAIN,
    "an old label": CHAIN.replace("CERTIFICATE", "X509 CERTIFICATE"),
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
def test_what_stands_around_a_block_does_not_matter(text: str) -> None:
    assert read_bundle(text, field="ca.crt").pem == CHAIN
    assert read_pair(text, KEY, chain_field="tls.crt", key_field="tls.key").pem == CHAIN


def test_certificates_joined_without_a_line_end_are_two() -> None:
    assert read_bundle(joined(CHAIN, OTHER), field="ca.crt").pem == CHAIN + OTHER
    assert read_bundle(joined(CHAIN, CHAIN), field="ca.crt").pem == CHAIN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no PEM certificate in ca.crt: it is missing or empty"),
        ("junk", "has no PEM certificate in ca.crt"),
        (KEY, "has no PEM certificate in ca.crt, but a block 'PRIVATE KEY'"),
        (der_as_text(CHAIN), "has no PEM certificate in ca.crt, but perhaps DER; convert it"),
        (CHAIN[:-30], "is truncated in ca.crt"),
        (CHAIN + OTHER[:-30], "is truncated in ca.crt"),
        (CHAIN.replace("\n", "\\n"), "not base64; it contains literal \\n instead of line ends"),
        (CHAIN.replace("M", "!", 1), "has a certificate in ca.crt that is not base64"),
        (
            CHAIN + OTHER.replace("MII", "AAA"),
            "has a certificate in ca.crt (number 2) that cannot be read",
        ),
    ],
)
def test_what_is_no_bundle_is_said(text: str, words: str) -> None:
    with pytest.raises(PemProblem) as problem:
        read_bundle(text, field="ca.crt")
    assert words in str(problem.value)


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        (CHAIN, "", "has no readable, unencrypted private key in tls.key: it is missing"),
        (CHAIN, "junk", "has no readable, unencrypted private key in tls.key"),
        (CHAIN, KEY[:-20], "is truncated in tls.key"),
        (
            CHAIN,
            KEY.replace("MIG", "AAA"),
            "has a private key in tls.key that cannot be read",
        ),
        (CHAIN, key_pem_of(P256, b"secret"), "in tls.key; store it unencrypted"),
        (
            CHAIN,
            key_pem_of(P256, b"secret", traditional=True),
            "in tls.key; store it unencrypted",
        ),
        (CHAIN, OTHER_KEY, "has a key in tls.key that does not match the first certificate"),
        (OTHER + CHAIN, KEY, "has a key in tls.key that does not match the first certificate"),
        (make(names=(), extensions=[MALFORMED_SAN])[0], KEY, "whose extensions are malformed"),
        (
            make(KEYS["rsa-1024"])[0],
            key_pem_of(KEYS["rsa-1024"]),
            "its RSA key has 1024 bits; issue it with 2048 or more",
        ),
        (
            make(KEYS["secp256k1"])[0],
            key_pem_of(KEYS["secp256k1"]),
            "its key is on the curve secp256k1; issue it on one of secp256r1,",
        ),
        (make(KEYS["dsa"])[0], key_pem_of(KEYS["dsa"]), "its key is neither RSA nor elliptic"),
        (
            CHAIN + SIGNED_WITH_SHA1,
            KEY,
            "has a certificate in tls.crt (number 2) that clients refuse: it is signed with sha1;",
        ),
    ],
)
def test_what_is_no_pair_is_said(chain: str, key: str, words: str) -> None:
    with pytest.raises(PemProblem) as problem:
        read_pair(chain, key, chain_field="tls.crt", key_field="tls.key")
    assert words in str(problem.value)


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("name", ["rsa-2048", "p-256"])
def test_keys_of_either_form_and_with_text_around_them_are_read(
    name: str, traditional: bool
) -> None:
    chain, _ = make(KEYS[name])
    key = as_pkcs12_tools_write(indented(key_pem_of(KEYS[name], traditional=traditional)))
    accepted_by_openssl(chain, key)


def test_the_parameters_of_a_curve_before_a_key_are_passed_over() -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    accepted_by_openssl(CHAIN, parameters + key_pem_of(P256, traditional=True))


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (CHAIN, ""),
        (make(ends=dt.timedelta(minutes=-1))[0], "expired on "),
        (make(starts=dt.timedelta(days=1))[0], "is valid only from "),
        (make(names=())[0], "without a host name (subjectAltName)"),
        (make(extensions=[client_only()])[0], "has a certificate that is"),
    ],
)
def test_what_clients_would_refuse_is_said(chain: str, words: str) -> None:
    pair = read_pair(chain, KEY, chain_field="tls.crt", key_field="tls.key")
    problem = serving_problem(pair, now=NOW)
    assert problem.startswith(words) if words == "" else words in problem
    assert bool(problem) is bool(words)


def test_a_bundle_is_of_use_while_one_certificate_is_valid() -> None:
    old, _ = make(ends=dt.timedelta(hours=-1))
    assert trust_problem(read_bundle(old + CHAIN, field="ca.crt"), now=NOW) == ""
    problem = trust_problem(read_bundle(old, field="ca.crt"), now=NOW)
    assert "has only expired certificates, the" in problem


# --- what our reader takes OpenSSL takes, and the other way about where clients could connect


@cache
def trusting_itself(chain: str) -> ssl.SSLContext:
    context = client_context(made.upstream_tls(ca=chain))
    context.check_hostname = True
    return context


def accepted_by_openssl(chain: str, key: str) -> None:
    """Load it into a listener's context, and shake hands with a client that trusts it."""
    server = CertificateStore().load((Certificate(chain=chain, key=key),)).context
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting_itself(chain).wrap_bio(to_client, to_server, server_hostname="localhost")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    done = [False, False]
    for _ in range(10):
        for n, side in enumerate((client, other)):
            try:
                side.do_handshake()
                done[n] = True
            except ssl.SSLWantReadError:
                continue
    assert done == [True, True]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_taken_serves_clients_and_others_are_refused(name: str) -> None:
    chain, key = make(KEYS[name])
    try:
        read_pair(chain, key, chain_field="tls.crt", key_field="tls.key")
    except PemProblem:
        taken = False
    else:
        taken = True
    try:
        accepted_by_openssl(chain, key)
    except (CertificateError, ssl.SSLError):
        served = False
    else:
        served = True
    assert taken is served
    assert taken is (name in {"rsa-2048", "p-256", "p-384", "p-521", "ed25519", "ed448"})


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
def test_a_listener_and_an_upstream_take_what_the_reader_takes(text: str) -> None:
    accepted_by_openssl(text, KEY)


def test_a_gateway_serves_what_has_expired_and_says_so() -> None:
    old, key = make(ends=dt.timedelta(minutes=-1))
    with capture_logs() as lines:
        CertificateStore().load((Certificate(chain=old, key=key),))
    (line,) = lines
    assert line["event"] == "certificate_refused_by_clients"
    assert line["names"] == ("localhost",)
    assert line["error"].startswith("expired on ")


def test_a_listener_offers_no_suite_with_cbc() -> None:
    context = CertificateStore().load((Certificate(chain=CHAIN, key=KEY),)).context
    names = [suite["name"] for suite in context.get_ciphers()]
    assert names
    assert all("GCM" in name or "POLY1305" in name for name in names), names
