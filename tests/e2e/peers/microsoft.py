"""Microsoft in a cluster: a token endpoint at 8443 and an SMTP server at 8465, both TLS from the
first octet, in a pod of the gateway's image. Reads /scripts/facts.json (the cluster's issuer and
keys, and whose token is taken), and prints each message that it takes as a line of JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from functools import partial
from pathlib import Path
from typing import Any

from token_endpoint import TokenEndpoint, public_key  # type: ignore[import-not-found]  # beside this file

FACTS: dict[str, Any] = json.loads(Path("/scripts/facts.json").read_text())


async def converse(
    endpoint: TokenEndpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    def say(text: str) -> None:
        writer.write(f"{text}\r\n".encode())

    user = ""
    envelope: list[str] = []
    say("220 smtp.office365.example")
    while line := (await reader.readline()).decode().strip():
        verb = line[:4].upper()
        if verb == "EHLO":
            say("250-hello\r\n250-SIZE 36700160\r\n250 AUTH LOGIN XOAUTH2")
        elif verb == "AUTH":
            words = line.split()
            if len(words) == 2:
                say("334 ")
                words.append((await reader.readline()).decode().strip())
            first, second = base64.b64decode(words[2]).decode().split("\x01")[:2]
            if words[1] == "XOAUTH2" and endpoint.good(second.removeprefix("auth=Bearer ")):
                user = first.removeprefix("user=")
                say("235 2.7.0 Authentication successful")
            else:
                say("535 5.7.3 Authentication unsuccessful")
        elif verb == "QUIT":
            say("221 bye")
            break
        elif not user:
            say("530 5.7.57 Client not authenticated to send mail")
        elif verb == "DATA":
            say("354 go")
            body = await reader.readuntil(b"\r\n.\r\n")
            print(
                json.dumps({"user": user, "envelope": envelope, "body": body.decode()}), flush=True
            )
            envelope = []
            say("250 2.0.0 OK")
        else:
            envelope.append(line)
            say("250 ok")
    writer.close()


async def main() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    endpoint = TokenEndpoint(tls, host="0.0.0.0", port=8443)
    [key] = FACTS["jwks"]["keys"]
    endpoint.keys = {FACTS["issuer"]: public_key(key)}
    endpoint.subjects = {FACTS["issuer"]: FACTS["subject"]}
    async with endpoint:
        server = await asyncio.start_server(partial(converse, endpoint), "0.0.0.0", 8465, ssl=tls)
        await server.serve_forever()


asyncio.run(main())
