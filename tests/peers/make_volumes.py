"""Makes studies whose geometry others judge, of the pixels of a real CT.

    make_volumes.py CT_FOLDER OUT_FOLDER

Each case is a folder in OUT_FOLDER: the CT as it is; the same numbers as if other planes, a tilted gantry, echoes or
several frames had made them. Enhanced objects are made by highdicom of the classic ones (legacy conversion), and by hand
where it makes none (echoes in one object).
"""

import copy
import pathlib
import sys

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage, generate_uid

TILT_DEGREES = 15


def main():
    ct, out = map(pathlib.Path, sys.argv[1:])
    source = classic(ct)
    write(out / "ct", source)
    write(out / "tilted", tilted(source))
    write(out / "oblique", oblique(source))
    write(out / "sagittal", sagittal(source))
    mr = echoes(source)
    write(out / "echoes", mr)
    write(out / "legacy", [legacy(source, ExplicitVRLittleEndian)])
    write(out / "legacy-jpeg2000", [legacy(source, JPEG2000Lossless)])
    write(out / "legacy-oblique", [legacy(oblique(source), ExplicitVRLittleEndian)])
    write(out / "enhanced-echoes", [enhanced(mr)])


def classic(folder):
    """The slices uncompressed, from the feet up, with UIDs; every second pixel, so that nobody waits."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt")
    slices = [pydicom.dcmread(path) for path in files]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number, d in enumerate(slices, 1):
        # Not square, so that no axis is where a reader might guess it.
        pixels = np.ascontiguousarray(d.pixel_array[100:420:2, 40:480:2])
        column, row = float(d.PixelSpacing[1]), float(d.PixelSpacing[0])
        x, y, z = map(float, d.ImagePositionPatient)
        d.ImagePositionPatient = [x + 40 * column, y + 100 * row, z]
        d.PixelSpacing = [2 * row, 2 * column]
        put_pixels(d, pixels)
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, frame
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID
        d.SOPInstanceUID, d.InstanceNumber = generate_uid(), number
        d.PatientID, d.PatientName = "geometry", "Geometry^"
        # By which dcm2niix would split a series that is one stack.
        d.Exposure, d.XRayTubeCurrent = 250, 600
    return slices


def put_pixels(d, pixels):
    d.Rows, d.Columns = pixels.shape[-2:]
    d.PixelData = pixels.tobytes()
    d["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = d.get("SOPClassUID") or d.file_meta.MediaStorageSOPClassUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta = meta


def anew(slices):
    """Copies in a series of their own."""
    series = generate_uid()
    copies = [copy.deepcopy(d) for d in slices]
    for d in copies:
        d.SeriesInstanceUID, d.SOPInstanceUID = series, generate_uid()
    return copies


def tilted(slices):
    """As if the gantry had been tilted: the table moves along z, the slices lie across."""
    copies = anew(slices)
    sin, cos = np.sin(np.radians(TILT_DEGREES)), np.cos(np.radians(TILT_DEGREES))
    for d in copies:
        d.ImageOrientationPatient = [1, 0, 0, 0, text(cos), text(sin)]
        d.GantryDetectorTilt = TILT_DEGREES
    return copies


def oblique(slices):
    """Turned about all axes."""
    turn = rotation(0, 0.3) @ rotation(1, -0.2) @ rotation(2, 0.5)
    copies = anew(slices)
    for d in copies:
        d.ImagePositionPatient = [text(v) for v in turn @ np.array(d.ImagePositionPatient, float)]
        d.ImageOrientationPatient = [text(v) for v in np.concatenate([turn[:, 0], turn[:, 1]])]
    return copies


def rotation(axis, angle):
    a, b = [i for i in range(3) if i != axis]
    turn = np.eye(3)
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
    return turn


def text(value):
    return f"{value:.10f}"[:16]


def sagittal(slices):
    """The same voxels cut the other way: 40 columns from the middle become slices."""
    voxels = np.stack([d.pixel_array for d in slices])
    x, y, z = map(float, slices[-1].ImagePositionPatient)
    row, column = map(float, slices[0].PixelSpacing)
    between = (z - float(slices[0].ImagePositionPatient[2])) / (len(slices) - 1)
    made = []
    for i, number in zip(range(90, 130), range(1, 41)):
        d = copy.deepcopy(slices[0])
        # Rows from the head down, columns to the back.
        put_pixels(d, np.ascontiguousarray(voxels[::-1, :, i]))
        d.ImagePositionPatient = [text(x + i * column), text(y), text(z)]
        d.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        d.PixelSpacing, d.SliceThickness = [text(between), text(row)], text(column)
        d.InstanceNumber = number
        made.append(d)
    return anew(made)


def echoes(slices):
    """Two echoes at every place, interleaved; the second darker by half."""
    made = []
    for d, (number, time) in ((d, echo) for d in slices for echo in ((2, 9.2), (1, 4.6))):
        d = copy.deepcopy(d)
        pixels = d.pixel_array.astype("int32") + 1024
        put_pixels(d, (pixels // number).astype("uint16"))
        d.SOPClassUID, d.Modality = MRImageStorage, "MR"
        d.PixelRepresentation = 0
        d.BitsStored, d.HighBit = 16, 15
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            if keyword in d:
                delattr(d, keyword)
        d.EchoTime, d.EchoNumbers, d.InstanceNumber = time, number, len(made) + 1
        d.RepetitionTime, d.ScanningSequence, d.SequenceVariant = 500, "GR", "SP"
        d.ScanOptions, d.MRAcquisitionType, d.EchoTrainLength = "", "2D", 2
        made.append(d)
    return anew(made)


def legacy(slices, syntax):
    """One object of all slices, as highdicom converts them."""
    copies = anew(slices)
    for d in copies:
        d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=copies,
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        transfer_syntax_uid=syntax,
    )


def enhanced(slices):
    """An Enhanced MR of both echoes, its frames in no order."""
    first = slices[0]
    order = np.random.default_rng(7).permutation(len(slices))
    d = copy.deepcopy(first)
    put_pixels(d, np.stack([slices[i].pixel_array for i in order]))
    d.SOPClassUID, d.SOPInstanceUID, d.SeriesInstanceUID = EnhancedMRImageStorage, generate_uid(), generate_uid()
    d.NumberOfFrames, d.ImageType = len(slices), ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime", "EchoNumbers"):
        if keyword in d:
            delattr(d, keyword)
    shared = Dataset()
    shared.PlaneOrientationSequence = one(ImageOrientationPatient=first.ImageOrientationPatient)
    shared.PixelMeasuresSequence = one(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    d.SharedFunctionalGroupsSequence = Sequence([shared])
    places = sorted({float(s.ImagePositionPatient[2]) for s in slices})
    frames = []
    for i in order:
        s, frame = slices[i], Dataset()
        place = places.index(float(s.ImagePositionPatient[2])) + 1
        frame.FrameContentSequence = one(StackID="1", InStackPositionNumber=place, DimensionIndexValues=[1, place, s.EchoNumbers])
        frame.PlanePositionSequence = one(ImagePositionPatient=s.ImagePositionPatient)
        frame.MREchoSequence = one(EffectiveEchoTime=float(s.EchoTime))
        frames.append(frame)
    d.PerFrameFunctionalGroupsSequence = Sequence(frames)
    pointers = ((0x00209056, 0x00209111), (0x00209057, 0x00209111), (0x00189082, 0x00189114))
    organization = generate_uid()
    d.DimensionOrganizationSequence = one(DimensionOrganizationUID=organization)
    index = [Dataset() for _ in pointers]
    for item, (pointer, group) in zip(index, pointers):
        item.DimensionOrganizationUID = organization
        item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, group
    d.DimensionIndexSequence = Sequence(index)
    return d


def one(**attributes):
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def write(folder, datasets):
    folder.mkdir(parents=True)
    # Names that say nothing of the order.
    for i, d in enumerate(datasets):
        d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
        d.save_as(folder / f"{i * 7 % len(datasets):03}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
