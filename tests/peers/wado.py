"""Retrieves by dicomweb-client what a node was sent, in Explicit VR Little Endian and as pictures, and judges by pydicom.

    wado.py BASE_URL FILE…              BASE_URL as in http://127.0.0.1:8042/dicom-web; the node has these files

Passes (status 0) when every instance comes back with the same attributes and pixels, in the transfer syntax that was asked
for, and its pictures look as pydicom says. JPEG decoders differ a little, and so may pixels that were compressed with loss.
"""

import io
import sys

import numpy
import pydicom
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000, JPEGBaseline8Bit

# On the mean, of 255; measured: up to 0.8 where decoders smooth chrominance in different ways.
JPEG_TOLERANCE = 1.5
RENDERED_TOLERANCE = 6
CHANGED = ("PhotometricInterpretation", "PlanarConfiguration", "PixelData")


def difference(one, other):
    assert one.shape == other.shape, (one.shape, other.shape)
    return numpy.abs(one.astype(int) - other.astype(int)).mean()


def pixels(dataset):
    return pixel_array(dataset) if "PixelData" in dataset else numpy.zeros(1)


def colours(dataset):
    """The first frame in red, green and blue; None for greys, and for segmented palettes."""
    array = pixels(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        if "RedPaletteColorLookupTableData" not in dataset:
            return None
        array = apply_color_lut(array, dataset)
    array = array[0] if int(dataset.get("NumberOfFrames") or 1) > 1 else array
    if array.ndim != 3:
        return None
    return array >> 8 if array.dtype == numpy.uint16 else array


def greys(dataset):
    """The first frame in greys as its first window has them (PS3.3 C.11.2.1); None where there is none."""
    if "WindowCenter" not in dataset or dataset.SamplesPerPixel != 1:
        return None
    array = pixels(dataset)
    array = array[0] if int(dataset.get("NumberOfFrames") or 1) > 1 else array
    values = apply_voi_lut(apply_modality_lut(array, dataset), dataset, prefer_lut=False)
    # pydicom spreads a window over all values that there can be.
    bits = dataset.BitsStored
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if dataset.PixelRepresentation else (0, (1 << bits) - 1)
    low, high = (end * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0)) for end in ends)
    shades = (values - low) / (high - low) * 255
    return numpy.rint(255 - shades if dataset.PhotometricInterpretation == "MONOCHROME1" else shades)


def judge(client, path):
    sent = pydicom.dcmread(path)
    syntax = sent.file_meta.TransferSyntaxUID
    at = (sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)
    stored = client.retrieve_instance(*at, media_types=(("application/dicom", "*"),))
    assert stored.file_meta.TransferSyntaxUID == syntax and stored == sent

    tolerance = JPEG_TOLERANCE if syntax in (JPEGBaseline8Bit, JPEG2000) else 0
    for media_types in ((("application/dicom", ExplicitVRLittleEndian),), ("application/dicom",)):
        back = client.retrieve_instance(*at, media_types=media_types)
        meta = back.file_meta
        if syntax == ExplicitVRLittleEndian:
            assert meta == sent.file_meta and back == sent
            continue
        assert meta.TransferSyntaxUID == ExplicitVRLittleEndian, meta.TransferSyntaxUID
        assert meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
        assert meta.ImplementationVersionName.startswith("GANTRY"), meta
        written = io.BytesIO()
        pydicom.filewriter.write_file_meta_info(written, meta, enforce_standard=True)
        length = pydicom.dcmread(io.BytesIO(written.getvalue()), force=True).file_meta.FileMetaInformationGroupLength
        assert meta.FileMetaInformationGroupLength == length, "the group length is right"
        # Group lengths are retired.
        wanted = [e for e in sent if e.keyword not in CHANGED and e.tag.element != 0 and e.tag.group < 0x7FE0]
        assert [e.tag for e in back if e.keyword not in CHANGED] == [e.tag for e in wanted]
        assert not [e.tag for e in wanted if back[e.tag].value != e.value and back[e.tag].VR == e.VR]
        assert difference(pixels(sent), pixels(back)) <= tolerance, difference(pixels(sent), pixels(back))

    picture = colours(sent)
    picture = greys(sent) if picture is None else picture
    if picture is None:
        return
    png = client.retrieve_instance_rendered(*at, media_types=("image/png",))
    shown = numpy.array(Image.open(io.BytesIO(png)))
    # Conversions round.
    assert difference(picture, shown) <= max(tolerance, 1), difference(picture, shown)
    gif = client.retrieve_instance_rendered(*at, media_types=("image/gif",))
    shown = numpy.array(Image.open(io.BytesIO(gif)).convert("RGB" if picture.ndim == 3 else "L"))
    assert difference(picture, shown) <= (RENDERED_TOLERANCE if picture.ndim == 3 else max(tolerance, 1))
    jpeg = client.retrieve_instance_rendered(*at, media_types=("image/jpeg",), params={"quality": 100})
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG" and difference(picture, numpy.array(image)) <= RENDERED_TOLERANCE


def main():
    base, *paths = sys.argv[1:]
    client = DICOMwebClient(url=base)
    failed = 0
    for path in paths:
        try:
            judge(client, path)
        except Exception as e:  # noqa: BLE001
            failed += 1
            print(f"{path}: {type(e).__name__}: {e}")
    print(f"{len(paths) - failed} instances of {len(paths)} retrieved")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
