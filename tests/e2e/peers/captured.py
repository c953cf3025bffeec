"""What smtp-sink wrote to its folder, as a JSON list of `mail`, `rcpt` and `content` (base64).

Arguments: the folder, and a text that the message's content must hold. smtp-sink (-d) puts its own
X- headers and one Received before the message and an empty line after it, and ends lines with LF.
"""

import base64
import json
import re
import sys
from pathlib import Path

folder, wanted = Path(sys.argv[1]), sys.argv[2].encode()
messages = []
for path in sorted(folder.iterdir()):
    head, mark, rest = path.read_bytes().partition(b"\nReceived: from ")
    content = re.sub(rb"\A[^\n]*\n(?:\t[^\n]*\n)*", b"", rest).removesuffix(b"\n")
    # A message that smtp-sink is still writing does not end in its empty line.
    if mark and rest.endswith(b"\n\n") and wanted in content:
        envelope = head.decode()
        messages.append(
            {
                "mail": re.findall(r"(?m)^X-Mail-Args: <([^>]*)>", envelope),
                "rcpt": re.findall(r"(?m)^X-Rcpt-Args: <([^>]*)>", envelope),
                "content": base64.b64encode(content).decode(),
            }
        )
json.dump(messages, sys.stdout)
