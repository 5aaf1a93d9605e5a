"""How long pynetdicom takes to send files, each association in a process of its own, with Nagle's algorithm off.

    bench_send.py HOST PORT CALLED_AE_TITLE FOLDER ...

One association for each folder. Reading, encoding and associating come before the clock starts. Prints JSON: seconds from the
first C-STORE-RQ to the last C-STORE-RSP, and the version.
Exit status 3 when a package is missing, 1 when something is not acknowledged.
"""

import json
import multiprocessing
import pathlib
import socket
import sys
import threading
import time

try:
    import pydicom
    import pynetdicom
    from pynetdicom import AE, evt
    from pynetdicom.transport import AssociationSocket
except ImportError as error:
    print(f"{error.name} is not installed in {sys.executable}", file=sys.stderr)
    sys.exit(3)


def prompt(event):
    """Sends small pieces at once."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledging(recv):
    """Acknowledges what was read at once: the kernel falls back to delaying by itself, and receivers that answer in two writes
    wait for that in between."""

    def recv_and_acknowledge(self, nr_bytes):
        came = recv(self, nr_bytes)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return came

    return recv_and_acknowledge


AssociationSocket.recv = acknowledging(AssociationSocket.recv)
HANDLERS = [(evt.EVT_CONN_OPEN, prompt)]


def send(host, port, title, folder, ready):
    """Sends what is in a folder once all are ready; when it was done, or nothing."""
    datasets = [pydicom.dcmread(path) for path in sorted(pathlib.Path(folder).iterdir())]
    entity = AE(ae_title="BENCH")
    for sop_class, syntax in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(host, port, ae_title=title, evt_handlers=HANDLERS)
    if not association.is_established:
        ready.abort()
        sys.exit("the association was not accepted")
    ready.wait()
    for dataset in datasets:
        status = association.send_c_store(dataset)
        if status.get("Status") != 0:
            sys.exit(f"not acknowledged: {status}")
    done.put(time.monotonic())
    association.release()


if __name__ == "__main__":
    host, port, title, *folders = sys.argv[1:]
    context = multiprocessing.get_context("fork")
    ready, done = context.Barrier(len(folders) + 1), context.Queue()
    senders = [context.Process(target=send, args=(host, int(port), title, folder, ready)) for folder in folders]
    for sender in senders:
        sender.start()
    try:
        ready.wait()
    except threading.BrokenBarrierError:
        sys.exit(1)
    began = time.monotonic()
    for sender in senders:
        sender.join()
    if any(sender.exitcode for sender in senders):
        sys.exit(1)
    last = max(done.get() for _ in senders)
    print(json.dumps({"seconds": last - began, "pynetdicom": pynetdicom.__version__}))
