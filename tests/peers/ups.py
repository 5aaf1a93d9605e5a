"""Uses UPS-RS as a worklist client does, and judges workitems and event reports.

    ups.py BASE_URL FILE…          BASE_URL as in http://127.0.0.1:8042/dicom-web; the files are of one study, which gets one job

Subscribes to all workitems, opens the WebSocket that it is told, sends the files, and follows the job to its end. Passes (status
0) when the states come in order, when every attribute has the VR that pydicom's dictionary has, when those of PS3.4 table CC.2.5-3
that an SCP must support are there, and when the output that the completed workitem names is retrieved.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import urllib.parse

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import dictionary_VR

ALL = "1.2.840.10008.5.1.4.34.5"
# Types 1 and 2 of an SCP's N-GET, and return keys of types 1 and 2.
VALUED = """SOPClassUID SOPInstanceUID ScheduledProcedureStepPriority ScheduledProcedureStepModificationDateTime ProcedureStepLabel
    WorklistLabel ScheduledProcedureStepStartDateTime ScheduledWorkitemCodeSequence InputReadinessState StudyInstanceUID
    ReferencedRequestSequence ProcedureStepState""".split()
PRESENT = """ScheduledProcessingParametersSequence ScheduledStationNameCodeSequence ScheduledStationClassCodeSequence
    ScheduledStationGeographicLocationCodeSequence ScheduledHumanPerformersSequence CommentsOnTheScheduledProcedureStep
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence OtherPatientIDsSequence PatientBirthDate PatientSex
    AdmissionID IssuerOfAdmissionIDSequence AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence MedicalAlerts
    PregnancyStatus SpecialNeeds ProcedureStepProgressInformationSequence
    UnifiedProcedureStepPerformedProcedureSequence""".split()
# Final State requirements of COMPLETED.
FINAL = """PerformedStationNameCodeSequence PerformedProcedureStepStartDateTime PerformedWorkitemCodeSequence
    PerformedProcedureStepEndDateTime OutputInformationSequence""".split()


class WebSocket:
    """As much of RFC 6455 as a subscriber needs."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        accept = f"sec-websocket-accept: {base64.b64encode(digest).decode()}".lower()
        assert accept in head.decode().lower(), head

    def read(self, length):
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            assert piece, "the connection ended"
            data += piece
        return data

    def receive(self):
        """The next text."""
        while True:
            first, second = self.read(2)
            assert first & 0x80 and not second & 0x80, "whole frames, not masked"
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.read(2))
            payload = self.read(length)
            if first & 0xF == 1:
                return payload.decode()
            assert first & 0xF == 9, f"opcode {first & 0xF}"


def judged(dataset):
    """A data set in DICOM JSON, of which every VR is right."""
    for key, element in dataset.items():
        vr = dictionary_VR(int(key, 16))
        assert element["vr"] in vr.split(" or "), f"{key}: {element['vr']}, not {vr}"
        if element["vr"] == "SQ":
            for item in element.get("Value", []):
                judged(item)
    assert list(dataset) == sorted(dataset)
    return pydicom.Dataset.from_json(dataset)


def workitem(base, uid):
    response = requests.get(f"{base}/workitems/{uid}", headers={"Accept": "application/dicom+json"}, timeout=60)
    response.raise_for_status()
    assert response.headers["Content-Type"].startswith("application/dicom+json")
    (dataset,) = response.json()
    found = judged(dataset)
    for keyword in VALUED:
        assert keyword in found and found[keyword].value not in (None, "", []), keyword
    for keyword in PRESENT:
        assert keyword in found, keyword
    assert "TransactionUID" not in found
    assert found.SOPInstanceUID == uid
    request = found.ReferencedRequestSequence[0]
    for keyword in ["StudyInstanceUID", "AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestedProcedureID"]:
        assert keyword in request, keyword
    return found


def main():
    base, *paths = sys.argv[1:]
    sent = [pydicom.dcmread(path) for path in paths]
    study = sent[0].StudyInstanceUID
    response = requests.post(f"{base}/workitems/{ALL}/subscribers/JUDGE%201", timeout=60)
    assert response.status_code == 201, response.text
    channel = WebSocket(response.headers["Content-Location"])
    DICOMwebClient(url=base).store_instances(sent, study_instance_uid=study)

    states, numbers, uid = [], [], None
    while not states or states[-1] != "COMPLETED":
        event = judged(json.loads(channel.receive()))
        assert event.AffectedSOPClassUID == "1.2.840.10008.5.1.4.34.6.1"
        assert event.EventTypeID == 1 and event.InputReadinessState == "READY", event
        uid = uid or event.AffectedSOPInstanceUID
        assert event.AffectedSOPInstanceUID == uid
        numbers.append(event.MessageID)
        states.append(event.ProcedureStepState)
        assert workitem(base, uid).StudyInstanceUID == study
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"], states
    assert numbers == [1, 2, 3], numbers

    found = workitem(base, uid)
    inputs = [r.ReferencedSOPInstanceUID for i in found.InputInformationSequence for r in i.ReferencedSOPSequence]
    assert sorted(inputs) == sorted(d.SOPInstanceUID for d in sent)
    performed = found.UnifiedProcedureStepPerformedProcedureSequence[0]
    for keyword in FINAL:
        assert keyword in performed and performed[keyword].value not in (None, "", []), keyword
    classes = set()
    for item in performed.OutputInformationSequence:
        assert item.TypeOfInstances == "DICOM" and item.StudyInstanceUID == study
        url = item.WADORSRetrievalSequence[0].RetrieveURL
        assert url == f"{base}/studies/{study}/series/{item.SeriesInstanceUID}"
        back = {d.SOPInstanceUID: d for d in DICOMwebClient(url=base).retrieve_series(study, item.SeriesInstanceUID)}
        assert back.keys() == {r.ReferencedSOPInstanceUID for r in item.ReferencedSOPSequence}
        classes.update(d.SOPClassUID.name for d in back.values())
    assert any("Segmentation" in name for name in classes) and any("SR" in name for name in classes), classes

    def search(**match):
        response = requests.get(f"{base}/workitems", params=match, timeout=60)
        assert response.status_code in (200, 204), response.text
        return [judged(d).SOPInstanceUID for d in response.json()] if response.status_code == 200 else []

    request = found.ReferencedRequestSequence[0]
    start = str(found.ScheduledProcedureStepStartDateTime)
    for match in [
        {},
        {"00741000": "COMPLETED"},
        {"ProcedureStepState": "COMPLETED", "ScheduledProcedureStepPriority": "LOW", "InputReadinessState": "READY"},
        {"WorklistLabel": "GANTRY", "ProcedureStepLabel": found.ProcedureStepLabel[:3] + "*"},
        {"SOPInstanceUID": uid, "StudyInstanceUID": study},
        {"ReferencedRequestSequence.AccessionNumber": request.AccessionNumber or "*"},
        {"ScheduledWorkitemCodeSequence.CodeValue": "110001"},
        {"ScheduledProcedureStepStartDateTime": f"{start[:8]}-{start[:8]}"},
        {"PatientID": found.PatientID or "*", "PatientName": str(found.PatientName).upper()},
    ]:
        assert search(**match) == [uid], match
    for match in [
        {"ProcedureStepState": "SCHEDULED"},
        {"ScheduledProcedureStepPriority": "HIGH"},
        {"WorklistLabel": "OTHER"},
        {"SOPInstanceUID": study},
        {"ScheduledProcedureStepStartDateTime": "19000101-19991231"},
        {"ScheduledStationNameCodeSequence.CodeValue": "CT1"},
        {"offset": "1"},
    ]:
        assert search(**match) == [], match

    response = requests.delete(f"{base}/workitems/{ALL}/subscribers/JUDGE%201", timeout=60)
    assert response.status_code == 200, response.text
    print(f"{' > '.join(states)}; {len(inputs)} instances in, {', '.join(sorted(classes))} out")


if __name__ == "__main__":
    main()
