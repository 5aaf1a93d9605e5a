"""Sends DICOM files with pynetdicom: C-ECHO, C-STORE of every file, and storage commitment of all of them.

usage: send.py PORT CALLED_AE_TITLE FILE...
"""

import sys
import threading

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification


def main(port: int, title: str, paths: list[str]) -> list[str]:
    datasets = [dcmread(path) for path in paths]
    entity = AE("PYNETDICOM")
    entity.add_requested_context(Verification)
    entity.add_requested_context(StorageCommitmentPushModel)
    for pair in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}:
        entity.add_requested_context(*pair)

    told, results = threading.Event(), []

    def on_event(event):
        results.append((event.event_type, event.event_information))
        told.set()
        return 0x0000, None

    handlers = [(evt.EVT_N_EVENT_REPORT, on_event)]
    association = entity.associate("127.0.0.1", port, ae_title=title, evt_handlers=handlers)
    if not association.is_established:
        return ["no association"]
    faults = []
    if association.send_c_echo().Status != 0:
        faults.append("C-ECHO failed")
    for path, dataset in zip(paths, datasets):
        status = association.send_c_store(dataset)
        if "Status" not in status or status.Status != 0:
            faults.append(f"{path}: {status}")

    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for dataset in datasets:
        item = Dataset()
        item.ReferencedSOPClassUID = dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(
        request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    if "Status" not in status or status.Status != 0:
        faults.append(f"N-ACTION: {status}")
    elif not told.wait(20):
        faults.append("no N-EVENT-REPORT")
    else:
        kind, said = results[0]
        if kind != 1 or len(said.ReferencedSOPSequence) != len(datasets):
            faults.append(f"not all is committed: event type {kind}")
        if said.TransactionUID != request.TransactionUID:
            faults.append("another transaction is answered")
    association.release()
    return faults


if __name__ == "__main__":
    found = main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    print("\n".join(found) or "all sent")
    sys.exit(1 if found else 0)
