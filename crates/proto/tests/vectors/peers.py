"""Prints peers.hex: heartbeats written by another hand, with Python's own HMAC and SHA-256, from the layout that
crates/proto/src/peers.rs draws.

    python3 crates/proto/tests/vectors/peers.py > crates/proto/tests/vectors/peers.hex

Each line: a name, the bytes of the datagram.
"""

import hashlib
import hmac
import struct

KEY = bytes(range(32))
NEVER = 2**64 - 1


def seal(body, key=KEY, version=2):
    header = b"kv" + bytes([version, 0]) + hashlib.sha256(key).digest()[:4]
    return header + body + hmac.new(key, header + body, hashlib.sha256).digest()


def name(text):
    return bytes([len(text)]) + text.encode()


def vote(of, generation, heir, attempt, rank):
    return struct.pack(">QIQIB", of, generation, heir, attempt, rank)


def digest(groups):
    number = 0xCBF29CE484222325
    for byte in b"".join(struct.pack(">QB", group, stage) for group, stage in groups):
        number = (number ^ byte) * 0x100000001B3 % 2**64
    return number


def body(sequence, session, echo, kind, jury, age, fitness, lists, sender, receiver):
    asks, grants, successions, unseen, groups = lists
    of, heard, digest, word = echo
    listed = 255 if isinstance(groups, int) else len(groups)
    counts = [len(asks), len(grants), len(successions), len(unseen), listed, kind]
    fixed = struct.pack(">QQQQQQBB6BI", sequence, session, of, heard, digest, age, fitness, word, *counts, jury)
    rest = [vote(*one) for one in asks + grants]
    rest += [struct.pack(">QBQ", gone, heir is not None, heir or 0) for gone, heir in successions]
    rest += [struct.pack(">Q", group) for group in unseen]
    if isinstance(groups, int):
        rest += [struct.pack(">Q", groups)]
    else:
        rest += [struct.pack(">QB", group, stage) for group, stage in groups]
    return fixed + name(sender) + name(receiver) + b"".join(rest)


quiet = body(1_000_000_007, 0x1111, (0, 0, 0, 0), 0, 0, NEVER, 1, ([], [], [], [], []), "a", "b")
full = body(
    2**40 + 5,
    0x0123456789ABCDEF,
    (0xFEDCBA9876543210, 2**41 + 6, digest([(0xF1, 1), (0xF2, 2)]), 2),
    1,
    0x01020304,
    1_500_000_000,
    4,
    (
        [(0xA1, 7, 0xB1, 3, 2)],
        [(0xA2, 8, 0xB2, 4, 0), (0xA3, 2**32 - 1, 0xB3, 1, 255)],
        [(0xC1, 0xC2), (0xC3, None)],
        [0xD1, 0xD2],
        [(0xE1, 1), (0xE2, 2), (0xE3, 3), (0xE4, 4)],
    ),
    "node-1.example.org",
    "node-2.example.org",
)
echoed = ([], [], [], [], digest([(0xE1, 1), (0xE2, 2)]))
same = body(1_000_000_007, 0x1111, (0, 0, 0, 0), 0, 0, NEVER, 1, echoed, "a", "b")
DATAGRAMS = {
    "quiet": seal(quiet),
    "full": seal(full),
    "other-key": seal(quiet, key=b"k" * 32),
    "as-echoed": seal(same),
    "version-1": seal(quiet, version=1),
    "one-byte-more": seal(quiet + b"\0"),
}

for title, datagram in DATAGRAMS.items():
    print(f"{title:<14} {datagram.hex()}")
