"""Stores, searches and retrieves by dicomweb-client, and judges what comes back.

    dicomweb.py BASE_URL FILE…          BASE_URL as in http://127.0.0.1:8042/dicom-web; the files are of one study

Passes (status 0) when every instance is stored, found at every level, and comes back as it was sent.
"""

import sys

import numpy
import pydicom
from dicomweb_client.api import DICOMwebClient


def same(one, other):
    return one.file_meta.TransferSyntaxUID == other.file_meta.TransferSyntaxUID and one == other


def main():
    base, *paths = sys.argv[1:]
    client = DICOMwebClient(url=base)
    sent = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, paths)}
    first = next(iter(sent.values()))
    study, series, instance = first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID
    stored = client.store_instances(list(sent.values()), study_instance_uid=study)
    assert len(stored.ReferencedSOPSequence) == len(sent), stored
    assert "FailedSOPSequence" not in stored

    found = client.search_for_studies(search_filters={"PatientName": str(first.PatientName).lower()})
    assert [f["0020000D"]["Value"] for f in found] == [[study]], found
    assert found[0]["00201208"]["Value"] == [len(sent)], found
    assert client.search_for_studies(search_filters={"StudyDate": "19000101-19000102"}) == []
    assert len(client.search_for_series(study)) == len({d.SeriesInstanceUID for d in sent.values()})
    assert len(client.search_for_instances(study)) == len(sent)
    assert len(client.search_for_instances(study, limit=1, offset=1)) == min(1, len(sent) - 1)

    back = {d.SOPInstanceUID: d for d in client.retrieve_study(study)}
    assert back.keys() == sent.keys() and all(same(back[uid], sent[uid]) for uid in sent)
    assert same(client.retrieve_instance(study, series, instance), first)
    metadata = client.retrieve_instance_metadata(study, series, instance)
    described = pydicom.Dataset.from_json(metadata, lambda *_: b"")
    assert described.Rows == first.Rows and described.StudyInstanceUID == study
    frames = client.retrieve_instance_frames(study, series, instance, [1])
    pixels = numpy.frombuffer(frames[0], first.pixel_array.dtype).reshape(first.pixel_array.shape)
    assert (pixels == first.pixel_array).all()
    png = client.retrieve_instance_rendered(study, series, instance, media_types=("image/png",))
    assert png.startswith(b"\x89PNG")
    print(f"{len(sent)} instances stored, found and retrieved")


if __name__ == "__main__":
    main()
