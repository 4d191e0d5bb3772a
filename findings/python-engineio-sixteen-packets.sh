#!/bin/sh
# python-engineio, the transport of python-socketio, takes at most 16 packets in one answer to a poll. The protocol names no such bound, and
# its client ends the connection at more, so a server that answers a poll with all that waits loses every client that missed much.
set -eu
version=4.15.1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" "python-engineio==$version"
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata
import sys

from engineio import payload

print("python-engineio", importlib.metadata.version("python-engineio"))


def read(count):
    """Decodes a valid payload of so many message packets, as the client does with the answer to a poll."""
    try:
        return f"{len(payload.Payload(encoded_payload=chr(30).join(['4x'] * count)).packets)} packets"
    except ValueError as error:
        return f"ValueError: {error}"


sixteen, seventeen = read(16), read(17)
print("an answer of 16 packets:", sixteen)
print("an answer of 17 packets:", seventeen)
if sixteen != "16 packets" or seventeen != "ValueError: Too many packets in payload":
    print("the behavior has changed")
    sys.exit(1)
print("as expected: 16 are read, 17 are refused as a whole")
PYTHON
