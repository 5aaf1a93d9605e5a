"""Sends to `gantry serve`, kills it at random points, and checks after each restart that nothing acknowledged is lost.

usage: torture.py GANTRY COMPONENT KILLS SEED [--json]

Needs nothing but Python. The senders speak DICOM over plain sockets and note a SOP Instance UID only when the C-STORE
response says success. What was not acknowledged is sent again after the restart, as a scanner does. Now and then an
instance comes again with other bytes, which take its place. One sender sends whole CTs, on each of which the component
runs: in the end each version of a study has one result at most, and the last one has one.
"""

import contextlib
import hashlib
import json
import pathlib
import random
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

SENDERS_OF_IMAGES = 3
# A kill falls this long after the senders start, or after a guest does.
KILL_AFTER_S = (0.01, 0.5)
KILL_IN_JOB_AFTER_S = (0.0, 0.015)
KILLS_IN_JOBS = 0.5
# How often a sender sends an earlier instance with other bytes.
OVERWRITES = 0.1
PATIENCE_S = 30
PIECE_BYTES = 16_000
SLICES, SIZE = 10, 16
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
# What `tests/src` writes around a guest.
MANIFEST = """
schema = 1
name = "torture"
version = "0.1.0"
vendor = "Tests"
[label]
title = "A test"
intended_use = "Tests."
demonstration = true
[accepts]
modality = ["CT"]
[needs]
interfaces = ["gantry:imaging/study", "gantry:imaging/volumes", "gantry:imaging/findings", "gantry:imaging/log"]
[component]
file = "component.wasm"
sha256 = "COMPONENT"
"""


def uid_bytes(uid):
    raw = uid.encode()
    return raw + b"\0" * (len(raw) % 2)


def element(group, number, vr, value):
    if isinstance(value, str):
        value = value.encode() + (b"" if len(value) % 2 == 0 else b"\0" if vr == "UI" else b" ")
    if isinstance(value, int):
        value = struct.pack("<H", value)
    size = struct.pack("<HI", 0, len(value)) if vr in ("OB", "OW") else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + vr.encode() + size + value


def image(uid, study, noise):
    """One that nothing can be made of, of any size."""
    return b"".join(element(*e) for e in [
        (0x0008, 0x0016, "UI", SECONDARY_CAPTURE),
        (0x0008, 0x0018, "UI", uid),
        (0x0008, 0x0060, "CS", "OT"),
        (0x0020, 0x000D, "UI", study),
        (0x0020, 0x000E, "UI", study + ".1"),
        (0x7FE0, 0x0010, "OB", noise),
    ])


def ct_slice(uid, study, number, noise):
    """A slice of a CT with a block of bone in it; it says how many there are, so that the study closes with the last one."""
    inside = range(5, 11)
    voxels = [1424 if i // SIZE in inside and i % SIZE in inside else value for i, value in enumerate(noise)]
    return b"".join(element(*e) for e in [
        (0x0008, 0x0016, "UI", CT),
        (0x0008, 0x0018, "UI", uid),
        (0x0008, 0x0020, "DA", "20240102"),
        (0x0008, 0x0030, "TM", "030405"),
        (0x0008, 0x0060, "CS", "CT"),
        (0x0010, 0x0010, "PN", "Torture"),
        (0x0010, 0x0020, "LO", study),
        (0x0018, 0x0050, "DS", "2"),
        (0x0020, 0x000D, "UI", study),
        (0x0020, 0x000E, "UI", study + ".1"),
        (0x0020, 0x0013, "IS", str(number)),
        (0x0020, 0x0032, "DS", f"-8\\-8\\{2 * number}"),
        (0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0"),
        (0x0020, 0x0052, "UI", study + ".2"),
        (0x0020, 0x1208, "IS", str(SLICES)),
        (0x0028, 0x0002, "US", 1),
        (0x0028, 0x0004, "CS", "MONOCHROME2"),
        (0x0028, 0x0010, "US", SIZE),
        (0x0028, 0x0011, "US", SIZE),
        (0x0028, 0x0030, "DS", "1\\1"),
        (0x0028, 0x0100, "US", 16),
        (0x0028, 0x0101, "US", 16),
        (0x0028, 0x0102, "US", 15),
        (0x0028, 0x0103, "US", 0),
        (0x0028, 0x1052, "DS", "-1024"),
        (0x0028, 0x1053, "DS", "1"),
        (0x7FE0, 0x0010, "OW", struct.pack(f"<{SIZE * SIZE}H", *voxels)),
    ])


class Association:
    """One association, with one presentation context."""

    def __init__(self, address, sop_class):
        self.sop_class = sop_class
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def item(kind, body):
            return struct.pack(">BBH", kind, 0, len(body)) + body

        context = b"\x01\0\0\0" + item(0x30, sop_class.encode()) + item(0x40, EXPLICIT.encode())
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
        elements = [(0x0002, uid_bytes(self.sop_class)), (0x0100, b"\x01\0"), (0x0110, b"\x01\0"), (0x0700, b"\0\0"),
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

    def release(self):
        self.socket.sendall(struct.pack(">BBI4x", 5, 0, 4))
        if self.read()[0] != 6:
            raise ConnectionError("the release is not answered")
        self.socket.close()


class Sender:
    """Sends one instance after the other, over every life of the node."""

    sop_class = None

    def __init__(self, number, seed):
        self.number, self.count, self.waiting = number, 0, None
        self.random = random.Random(f"{seed}-{number}")
        self.acknowledged, self.faults, self.overwrites = {}, [], 0

    def run(self, address):
        try:
            while True:
                association = Association(address, self.sop_class)
                while self.waiting or self.next():
                    uid, data = self.waiting
                    status = association.store(uid, data)
                    if status != 0:
                        self.faults.append(f"{uid}: status {status:04X}")
                        return
                    self.acknowledged[uid] = hashlib.sha256(data).digest()
                    self.waiting = None
                association.release()
        except OSError:
            # The node was killed.
            return

    def next(self):
        """Makes the next instance wait; nothing where the association has none left."""
        raise NotImplementedError

    def overwrites_now(self):
        now = bool(self.acknowledged) and self.random.random() < OVERWRITES
        self.overwrites += now
        return now


class Images(Sender):
    """Without end, on one association."""

    sop_class = SECONDARY_CAPTURE

    def next(self):
        if self.overwrites_now():
            number = self.random.randint(1, self.count)
        else:
            self.count += 1
            number = self.count
        uid, study = f"2.25.8{self.number}.{number}", f"2.25.7{self.number}.{number // 20 + 1}"
        self.waiting = uid, image(uid, study, self.random.randbytes(2 * self.random.randint(500, 300_000)))
        return True


class Cts(Sender):
    """Each on an association of its own."""

    sop_class = CT

    def __init__(self, number, seed):
        super().__init__(number, seed)
        self.left = []

    def next(self):
        if self.left:
            self.waiting = self.left.pop(0)
            return True
        # For the association after this one.
        if self.overwrites_now():
            self.left = [self.slice(self.random.randint(1, self.count), self.random.randint(1, SLICES))]
        else:
            self.count += 1
            self.left = [self.slice(self.count, number) for number in range(1, SLICES + 1)]
        return False

    def slice(self, study, number):
        study = f"2.25.9{self.number}.{study}"
        uid = f"{study}.1.{number}"
        noise = [self.random.randint(0, 99) for _ in range(SIZE * SIZE)]
        return uid, ct_slice(uid, study, number, noise)


class Node:
    """One life of it."""

    def __init__(self, gantry, folder):
        self.log, self.guest_runs = folder / "log", threading.Event()
        command = [gantry, "serve", "--config", str(folder / "gantry.toml")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        threading.Thread(target=self.keep, daemon=True).start()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            sys.exit(f"the node does not start:\n{self.log.read_text()[-4000:]}")
        host, port = json.loads(line)["dimse"].rsplit(":", 1)
        self.address = host, int(port)

    def keep(self):
        with open(self.log, "ab", buffering=0) as log:
            for line in self.process.stderr:
                log.write(line)
                if b"the guest starts" in line:
                    self.guest_runs.set()

    def kill(self):
        """How it ended by itself, where it did."""
        died = self.process.poll()
        self.process.kill()
        self.process.wait()
        return died


def configure(folder, component):
    """A node that lets instances be replaced, tries a job as often as it is killed, and runs the component on every CT."""
    package = folder / "package"
    package.mkdir()
    shutil.copy(component, package / "component.wasm")
    digest = hashlib.sha256((package / "component.wasm").read_bytes()).hexdigest()
    (package / "module.toml").write_text(MANIFEST.replace("COMPONENT", digest))
    data, cache, package = (json.dumps(str(folder / name)) for name in ("data", "cache", "package"))
    (folder / "gantry.toml").write_text(
        f'[node]\ndata_folder = {data}\ndisk_free_min_mib = 1\nduplicates = "replace"\n'
        f"[cache]\nfolder = {cache}\n"
        '[dimse]\nlisten = "127.0.0.1:0"\nae_title = "GANTRY"\nunknown_callers = "accept"\n'
        f"[schedule]\nattempts_max = 100\n[[modules]]\npackage = {package}\n"
    )


def after_meta(content):
    """Where the data set begins (PS3.10 section 7.1)."""
    return 144 + struct.unpack_from("<I", content, 140)[0]


def promised(senders):
    """What each instance may be: what was acknowledged last or is on its way, and nothing where nothing was acknowledged."""
    allowed = {uid: {digest} for sender in senders for uid, digest in sender.acknowledged.items()}
    for uid, data in (sender.waiting for sender in senders if sender.waiting):
        allowed.setdefault(uid, {None}).add(hashlib.sha256(data).digest())
    return allowed


def check_instances(journal, data, allowed):
    """What is wrong, and how many files have a name and no row: renamed, and killed before the commit."""
    faults, known = [], {}
    rows = journal.execute("SELECT sop_instance_uid, path, sha256 FROM instance").fetchall()
    for uid, path, digest in rows:
        try:
            content = (data / path).read_bytes()
        except OSError:
            faults.append(f"{uid} is journalled, and its file is gone")
            continue
        if hashlib.sha256(content).digest() != digest:
            faults.append(f"{uid} is journalled, and its file is not what was received")
            continue
        known[uid] = hashlib.sha256(content[after_meta(content):]).digest()
    for uid, digests in allowed.items():
        if known.get(uid) not in digests:
            faults.append(f"{uid} is acknowledged, and not kept as it was sent")
    faults += [f"{uid} is kept, and nobody sent it" for uid in known if uid not in allowed]
    named = {path for _, path, _ in rows} | {path for path, in journal.execute("SELECT path FROM quarantine")}
    files = {str(p.relative_to(data)) for p in (data / "instances").rglob("*.dcm")}
    return faults, len(files - named)


class Results:
    """What lay in the folders of results, over all lives: an object never changes, whoever writes it again."""

    def __init__(self):
        self.seen = {}

    def check(self, data):
        """Of a node that does not run."""
        faults = []
        for path in (data / "results").rglob("result.json"):
            if path.parent.name.startswith("."):
                # Not in its place yet.
                continue
            for output in json.loads(path.read_bytes())["outputs"]:
                file, uid = path.parent / output["file"], output["sop_instance_uid"]
                digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "nothing"
                if digest != output["sha256"]:
                    faults.append(f"{file}: is not what its result.json names")
                if self.seen.setdefault(uid, (path.parent, digest)) != (path.parent, digest):
                    faults.append(f"{file}: result {uid} exists twice, or changed")
        return faults


def check_jobs(journal, data):
    """What is wrong with jobs and what the audit log says of them; how many are done, and how many runs were killed."""
    # Looked at first: a result comes before the row that says so.
    found = {path.parent for path in (data / "results").rglob("result.json") if not path.parent.name.startswith(".")}
    faults, folders, done = [], set(), {}
    journal.execute("BEGIN")
    jobs = journal.execute("SELECT id, study_instance_uid, study_version, module, state, result_path FROM job").fetchall()
    audit = journal.execute("SELECT action, object, digests, detail FROM audit WHERE object LIKE 'job %'").fetchall()
    journal.execute("COMMIT")
    for action, job, digests, _ in audit:
        if action == "job-done":
            done.setdefault(int(job.split()[1]), []).append(digests.removeprefix("result="))
    if len({(study, version, module) for _, study, version, module, *_ in jobs}) < len(jobs):
        faults.append("a version of a study has two jobs of one module")
    for number, study, version, module, state, path in jobs:
        folder = pathlib.Path("results", hashlib.sha256(study.encode()).hexdigest()[:32], module, f"v{version}")
        folders.add(data / folder)
        digests = done.get(number, [])
        if state != "done":
            faults += [f"job {number} is {state}, and the audit log has its result"] if digests else []
            continue
        result = data / folder / "result.json"
        is_there = result.is_file() and path == str(folder)
        if len(digests) != 1 or not is_there or hashlib.sha256(result.read_bytes()).hexdigest() != digests[0]:
            faults.append(f"job {number} is done, with {len(digests)} rows in the audit log, and not with that result")
    faults += [f"{folder}: is a result of no job" for folder in found - folders]
    killed = sum("the node ended while it ran" == detail for _, _, _, detail in audit)
    return faults, len(done), killed


def unsettled(journal):
    """Whole CTs without a result of all that they are made of, and jobs that are not over."""
    whole = journal.execute(
        "WITH whole AS (SELECT study_instance_uid AS uid, max(instance.id) AS last FROM study JOIN series ON "
        "series.study = study.id JOIN instance ON instance.series = series.id WHERE study.stated_instances IS NOT NULL "
        "GROUP BY study.id HAVING count(*) = study.stated_instances) SELECT uid FROM whole WHERE NOT EXISTS (SELECT 1 "
        "FROM job JOIN routed USING (study_instance_uid, study_version) WHERE job.study_instance_uid = uid "
        "AND state = 'done' AND superseded_by IS NULL AND last_instance = last)"
    ).fetchall()
    jobs = journal.execute(
        "SELECT 'job ' || id || ' is ' || state FROM job WHERE state NOT IN ('done', 'cancelled') AND NOT "
        "(state = 'failed' AND superseded_by IS NOT NULL)"
    ).fetchall()
    return [f"{study} is whole, and without a result" for study, in whole] + [job for job, in jobs]


def settle(journal):
    """Waits until everything that was sent has become of it what must; what has not when nothing more happens."""
    last, since = None, time.monotonic()
    while left := unsettled(journal):
        if left != last:
            last, since = left, time.monotonic()
        if time.monotonic() - since > PATIENCE_S:
            return left
        time.sleep(0.1)
    return []


def open_journal(data):
    # Statements are their own transactions unless one is begun.
    return contextlib.closing(sqlite3.connect(data / "journal.sqlite", isolation_level=None, timeout=PATIENCE_S))


def wait_for_moment(node, chance):
    if chance.random() < KILLS_IN_JOBS and node.guest_runs.wait(PATIENCE_S):
        time.sleep(chance.uniform(*KILL_IN_JOB_AFTER_S))
    else:
        time.sleep(chance.uniform(*KILL_AFTER_S))


def main(gantry, component, kills, seed, as_json):
    chance, began = random.Random(seed), time.monotonic()
    senders = [Images(number, seed) for number in range(1, SENDERS_OF_IMAGES + 1)] + [Cts(SENDERS_OF_IMAGES + 1, seed)]
    results, faults, interrupted = Results(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = folder / "data"
        configure(folder, component)
        node = Node(gantry, folder)
        for kill in range(1, kills + 1):
            threads = [threading.Thread(target=sender.run, args=(node.address,)) for sender in senders]
            [thread.start() for thread in threads]
            wait_for_moment(node, chance)
            died = node.kill()
            [thread.join() for thread in threads]
            interrupted += sum(sender.waiting is not None for sender in senders)
            found = results.check(data) + [fault for sender in senders for fault in sender.faults]
            if died is not None:
                found.append(f"the node ended by itself with {died}")
            node = Node(gantry, folder)
            with open_journal(data) as journal:
                of_instances, orphans = check_instances(journal, data, promised(senders))
                of_jobs, done, killed = check_jobs(journal, data)
                if kill == kills:
                    of_jobs += settle(journal)
                    ended, done, killed = check_jobs(journal, data)
                    of_jobs += ended
            faults += [f"kill {kill}: {fault}" for fault in found + of_instances + of_jobs]
            if faults:
                break
        node.kill()
        faults += [f"in the end: {fault}" for fault in results.check(data)]
    acknowledged = sum(len(sender.acknowledged) for sender in senders)
    summary = {
        "seed": seed, "kills": kill, "acknowledged": acknowledged, "interrupted": interrupted,
        "overwrites": sum(sender.overwrites for sender in senders), "jobs_done": done, "jobs_killed": killed,
        "named_without_row": orphans, "seconds": round(time.monotonic() - began, 1), "faults": faults,
    }
    if as_json:
        print(json.dumps(summary))
    else:
        print("\n".join(faults))
        print(f"torture: {kill} kills (seed {seed}), {acknowledged} acknowledged, {interrupted} cut off, "
              f"{summary['overwrites']} with other bytes, {done} jobs done, {killed} runs killed, {len(faults)} faults, "
              f"{orphans} files with a name and no row, {summary['seconds']} s")
    # A run in which one of these never happened shows nothing of it.
    shown = {"acknowledged": acknowledged, "cut off": interrupted, "job done": done, "run killed": killed}
    for what in (what for what, count in shown.items() if not count):
        print(f"torture: nothing was shown, for there was no {what}; use more kills", file=sys.stderr)
    return 0 if not faults and all(shown.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), "--json" in sys.argv))
