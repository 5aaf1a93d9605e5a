"""Sends to `gantry serve`, kills it at random points, and checks after each restart that nothing acknowledged is lost.

usage: torture.py GANTRY KILLS SEED [--json]

Needs nothing but Python. The senders speak DICOM over plain sockets and note a SOP Instance UID only when the C-STORE
response says success. What was not acknowledged is sent again after the restart, as a scanner does.
"""

import hashlib
import json
import pathlib
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

ASSOCIATIONS = 4
# A kill falls this long after the senders start.
KILL_AFTER_S = (0.01, 0.5)
PATIENCE_S = 30
PIECE_BYTES = 16_000
CLASS = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"


def uid_bytes(uid):
    raw = uid.encode()
    return raw + b"\0" * (len(raw) % 2)


def data_set(uid, study, noise):
    def short(group, element, vr, value):
        return struct.pack("<HH2sH", group, element, vr, len(value)) + value

    series = study + ".1"
    return b"".join([
        short(0x0008, 0x0016, b"UI", uid_bytes(CLASS)),
        short(0x0008, 0x0018, b"UI", uid_bytes(uid)),
        short(0x0008, 0x0060, b"CS", b"OT"),
        short(0x0020, 0x000D, b"UI", uid_bytes(study)),
        short(0x0020, 0x000E, b"UI", uid_bytes(series)),
        struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, len(noise)) + noise,
    ])


class Association:
    """One association, with one presentation context."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def item(kind, body):
            return struct.pack(">BBH", kind, 0, len(body)) + body

        context = b"\x01\0\0\0" + item(0x30, CLASS.encode()) + item(0x40, EXPLICIT.encode())
        user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"2.25.1")
        items = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
        body = struct.pack(">HH16s16s32x", 1, 0, b"GANTRY".ljust(16), b"TORTURE".ljust(16)) + items
        self.socket.sendall(struct.pack(">BBI", 1, 0, len(body)) + body)
        if self.read()[0] != 2:
            raise ConnectionError("the association is refused")

    def read(self):
        kind, length = struct.unpack(">BxI", self.exactly(6))
        return kind, self.exactly(length)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            some = self.socket.recv(count - len(data))
            if not some:
                raise ConnectionError("closed")
            data += some
        return data

    def piece(self, header, data):
        self.socket.sendall(struct.pack(">BBIIBB", 4, 0, len(data) + 6, len(data) + 2, 1, header) + data)

    def store(self, uid, data):
        """The status."""
        elements = [(0x0002, uid_bytes(CLASS)), (0x0100, b"\x01\0"), (0x0110, b"\x01\0"), (0x0700, b"\0\0"),
                    (0x0800, b"\0\0"), (0x1000, uid_bytes(uid))]
        command = b"".join(struct.pack("<HHI", 0, e, len(v)) + v for e, v in elements)
        command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
        self.piece(3, command)
        for start in range(0, len(data), PIECE_BYTES):
            self.piece(2 if start + PIECE_BYTES >= len(data) else 0, data[start:start + PIECE_BYTES])
        kind, body = self.read()
        at = body.find(struct.pack("<HHI", 0, 0x0900, 2))
        if kind != 4 or at < 0:
            raise ConnectionError("no response")
        return struct.unpack_from("<H", body, at + 8)[0]


class Sender:
    """Sends one instance after the other, over every life of the node."""

    def __init__(self, number, seed):
        self.number, self.count, self.waiting = number, 0, None
        self.random = random.Random(f"{seed}-{number}")
        self.acknowledged, self.faults = {}, []

    def run(self, address):
        try:
            association = Association(address)
            while True:
                uid, data = self.waiting or self.next()
                self.waiting = uid, data
                status = association.store(uid, data)
                if status != 0:
                    self.faults.append(f"{uid}: status {status:04X}")
                    return
                self.acknowledged[uid] = hashlib.sha256(data).digest()
                self.waiting = None
        except OSError:
            # The node was killed.
            return

    def next(self):
        self.count += 1
        study = f"2.25.7{self.number}.{self.count // 20 + 1}"
        noise = self.random.randbytes(2 * self.random.randint(500, 300_000))
        uid = f"2.25.8{self.number}.{self.count}"
        return uid, data_set(uid, study, noise)


def start(gantry, folder):
    config, log = folder / "gantry.toml", open(folder / "log", "ab")
    config.write_text(
        f"[node]\ndata_folder = {json.dumps(str(folder / 'data'))}\ndisk_free_min_mib = 1\n"
        '[dimse]\nlisten = "127.0.0.1:0"\nae_title = "GANTRY"\nunknown_callers = "accept"\n'
    )
    command = [gantry, "serve", "--config", str(config)]
    node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    line = node.stdout.readline()
    if not line:
        sys.exit(f"the node does not start:\n{(folder / 'log').read_text()[-4000:]}")
    host, port = json.loads(line)["dimse"].rsplit(":", 1)
    return node, (host, int(port))


def after_meta(content):
    """Where the data set begins (PS3.10 section 7.1)."""
    return 144 + struct.unpack_from("<I", content, 140)[0]


def check(data, acknowledged):
    """What is wrong, and how many files have a name and no row: renamed, and killed before the commit."""
    faults, named = [], set()
    journal = sqlite3.connect(data / "journal.sqlite")
    rows = journal.execute("SELECT sop_instance_uid, path, sha256 FROM instance").fetchall()
    journal.close()
    known = {}
    for uid, path, digest in rows:
        named.add(path)
        try:
            content = (data / path).read_bytes()
        except OSError:
            faults.append(f"{uid} is journalled, and its file is gone")
            continue
        if hashlib.sha256(content).digest() != digest:
            faults.append(f"{uid} is journalled, and its file is not what was received")
            continue
        known[uid] = hashlib.sha256(content[after_meta(content):]).digest()
    for uid, digest in acknowledged.items():
        if known.get(uid) != digest:
            faults.append(f"{uid} is acknowledged, and not kept as it was sent")
    files = {str(p.relative_to(data)) for p in (data / "instances").rglob("*.dcm")}
    return faults + twice(data), len(files - named)


def twice(data):
    """Results that exist twice: one SOP Instance UID (0002,0003), different bytes."""
    seen, faults = {}, []
    for path in (data / "results").rglob("*.dcm"):
        content = path.read_bytes()
        at = content.find(b"\x02\x00\x03\x00UI")
        length = struct.unpack_from("<H", content, at + 6)[0]
        uid, digest = content[at + 8:at + 8 + length], hashlib.sha256(content).digest()
        if at >= 0 and seen.setdefault(uid, digest) != digest:
            faults.append(f"result {uid.rstrip(bytes(1)).decode()} exists twice")
    return faults


def main(gantry, kills, seed, as_json):
    chance, began = random.Random(seed), time.monotonic()
    senders = [Sender(number, seed) for number in range(1, ASSOCIATIONS + 1)]
    faults, orphans, interrupted = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        node, address = start(gantry, folder)
        for kill in range(1, kills + 1):
            threads = [threading.Thread(target=sender.run, args=(address,)) for sender in senders]
            [thread.start() for thread in threads]
            time.sleep(chance.uniform(*KILL_AFTER_S))
            died = node.poll()
            node.kill()
            node.wait()
            [thread.join() for thread in threads]
            interrupted += sum(sender.waiting is not None for sender in senders)
            node, address = start(gantry, folder)
            acknowledged = {uid: digest for sender in senders for uid, digest in sender.acknowledged.items()}
            found, orphans = check(folder / "data", acknowledged)
            found += [fault for sender in senders for fault in sender.faults]
            if died is not None:
                found.append(f"the node ended by itself with {died}")
            faults += [f"kill {kill}: {fault}" for fault in found]
            if faults:
                break
        node.kill()
        node.wait()
    summary = {
        "seed": seed, "kills": kill, "acknowledged": len(acknowledged), "interrupted": interrupted,
        "named_without_row": orphans, "seconds": round(time.monotonic() - began, 1), "faults": faults,
    }
    if as_json:
        print(json.dumps(summary))
    else:
        print("\n".join(faults))
        print(f"torture: {kill} kills (seed {seed}), {len(acknowledged)} acknowledged and {interrupted} cut off, "
              f"{len(faults)} faults, {orphans} files with a name and no row, {summary['seconds']} s")
    # A run in which nothing was acknowledged or cut off shows nothing.
    return 0 if not faults and acknowledged and interrupted else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), "--json" in sys.argv))
