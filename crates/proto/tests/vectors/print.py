"""Prints frames.hex: what scapy, another implementation, makes of the frames that we send and read.

    python3 -m venv venv && venv/bin/pip install scapy==2.8.0
    venv/bin/python crates/proto/tests/vectors/print.py > crates/proto/tests/vectors/frames.hex

Each line: a name, the bytes that follow the link-layer header.
"""

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.layers.l2 import ARP

MAC = "02:00:00:00:00:01"
OTHER = "02:00:00:00:00:02"
VIP4 = "192.0.2.10"
PEER4 = "192.0.2.20"
VIP6 = "2001:db8::1234:5678"
PEER6 = "2001:db8::20"
# Reserved byte and queue pair 0x000048, then a GID (RFC 4391 section 9.1.1).
IB = bytes.fromhex("00000048fe80000000000000000000000000abcd")
# The broadcast group: queue pair 0xffffff, GID ff12:401b:ffff::ffff:ffff (RFC 4391 section 4).
IB_ALL = bytes.fromhex("00ffffffff12401bffff000000000000ffffffff")


def arp(**fields):
    return ARP(hwtype=1, ptype=0x0800, hwlen=6, plen=4, **fields)


def ib_arp(**fields):
    return ARP(hwtype=32, ptype=0x0800, hwlen=20, plen=4, **fields)


def ip6(source, destination):
    return IPv6(src=source, dst=destination, hlim=255)


def na(**fields):
    return ICMPv6ND_NA(tgt=VIP6, **fields)


def ib_option(kind):
    # RFC 4391 section 9.3: length 3, two reserved bytes, 20 bytes of address.
    return ICMPv6NDOptUnknown(type=kind, len=3, data=b"\0\0" + IB)


FRAMES = {
    "arp-announcement-request": arp(op=1, hwsrc=MAC, psrc=VIP4, hwdst="ff:ff:ff:ff:ff:ff", pdst=VIP4),
    "arp-announcement-reply": arp(op=2, hwsrc=MAC, psrc=VIP4, hwdst=MAC, pdst=VIP4),
    "arp-probe": arp(op=1, hwsrc=MAC, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst=VIP4),
    "arp-answer": arp(op=2, hwsrc=OTHER, psrc=VIP4, hwdst=MAC, pdst="0.0.0.0"),
    "arp-question": arp(op=1, hwsrc=OTHER, psrc=PEER4, hwdst="00:00:00:00:00:00", pdst=VIP4),
    "ib-arp-announcement-request": ib_arp(op=1, hwsrc=IB, psrc=VIP4, hwdst=IB_ALL, pdst=VIP4),
    "ib-arp-announcement-reply": ib_arp(op=2, hwsrc=IB, psrc=VIP4, hwdst=IB, pdst=VIP4),
    "ib-arp-probe": ib_arp(op=1, hwsrc=IB, psrc="0.0.0.0", hwdst=bytes(20), pdst=VIP4),
    "ndp-announcement": ip6(VIP6, "ff02::1") / na(R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC),
    "ndp-probe": ip6("::", "ff02::1:ff34:5678") / ICMPv6ND_NS(tgt=VIP6),
    "ndp-answer": ip6(VIP6, "ff02::1") / na(R=1, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=OTHER),
    "ndp-solicited": ip6(VIP6, PEER6) / na(R=0, S=1, O=0) / ICMPv6NDOptDstLLAddr(lladdr=OTHER),
    "ndp-bare": ip6(VIP6, "ff02::1") / na(R=0, S=0, O=1),
    "ndp-question": ip6(PEER6, "ff02::1:ff34:5678") / ICMPv6ND_NS(tgt=VIP6) / ICMPv6NDOptSrcLLAddr(lladdr=OTHER),
    "ib-ndp-announcement": ip6(VIP6, "ff02::1") / na(R=0, S=0, O=1) / ib_option(2),
}

for name, frame in FRAMES.items():
    print(f"{name:<28} {bytes(frame).hex()}")
