"""The floor that the benchmark compares with keeps the promise that it is a floor of."""

import asyncio
import sys
import zlib
from pathlib import Path

from tests.bench.floor import DONE, MESSAGE, RECORD
from tests.bench.relays import Floor


def body(n: int) -> bytes:
    """A message's data as it crosses the wire: some large, all different, with dots to stuff."""
    lines = b"".join(b"..%d %d\r\n" % (n, line) for line in range(20_000 if n % 10 == 0 else 40))
    return b"Subject: %d\r\n\r\n%s.\r\n" % (n, lines)


async def sink(taken: dict[bytes, list[bytes]]) -> asyncio.Server:
    """Takes everything; bodies by envelope."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        envelope = b""
        while line := await reader.readline():
            verb = line[:4]
            envelope = line if verb == b"MAIL" else envelope + line * (verb == b"RCPT")
            writer.write(b"354 go on\r\n" if verb == b"DATA" else b"250 ok\r\n")
            if verb == b"DATA":
                data = await reader.readuntil(b"\r\n.\r\n")
                taken.setdefault(envelope, []).append(data)
                writer.write(b"250 ok\r\n")
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24)


async def send(port: int, numbers: range) -> None:
    """Send messages over one connection, a command at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    expected = [(b"", b"220"), (b"EHLO client\r\n", b"250")]
    for n in numbers:
        expected += [(b"MAIL FROM:<a%d@example.com>\r\n" % n, b"250")]
        expected += [(b"RCPT TO:<b@example.net>\r\n", b"250"), (b"DATA\r\n", b"354")]
        expected += [(body(n), b"250")]
    expected += [(b"QUIT\r\n", b"221")]
    for command, code in expected:
        writer.write(command)
        assert (await reader.readline())[:3] == code
    writer.close()


async def test_every_message_arrives_whole_and_is_in_the_log(tmp_path: Path) -> None:
    taken: dict[bytes, list[bytes]] = {}
    async with asyncio.timeout(60), await sink(taken) as server:
        floor = Floor(tmp_path, server.sockets[0].getsockname()[1], sys.executable)
        await floor.start()
        try:
            await asyncio.gather(*(send(floor.port, range(n, n + 20)) for n in range(0, 100, 20)))
            while len(taken) < 100:
                await asyncio.sleep(0.01)
        finally:
            await floor.stop()
    envelopes = {
        n: b"MAIL FROM:<a%d@example.com>\r\nRCPT TO:<b@example.net>\r\n" % n for n in range(100)
    }
    assert taken == {envelopes[n]: [body(n)] for n in range(100)}

    logged = []
    log = (tmp_path / "log" / "1").read_bytes()
    while log:
        length, check, kind, number = RECORD.unpack_from(log)
        content, log = log[RECORD.size : RECORD.size + length], log[RECORD.size + length :]
        assert zlib.crc32(content) == check
        assert kind in {MESSAGE, DONE}
        assert number > 0
        logged += [content] if kind == MESSAGE else []
    assert sorted(logged) == sorted(envelopes[n] + body(n) for n in range(100))
